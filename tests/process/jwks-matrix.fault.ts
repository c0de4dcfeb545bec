import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type JwksHost, startJwksHost } from "../../packages/server/src/testing/jwks-host.ts";
import { admin, exchange, subjectToken } from "../../packages/server/src/testing/server.ts";
import { AUTHORITY, type FaultHost, startFaultHosts } from "./jwks-faults.ts";
import { createJwksPartner, type JwksPartner, type JwksProcess, startJwksProcess } from "./jwks-partner.ts";
import { between, latencies, type Load, others, type Sample, startLoad } from "./load.ts";
import { makeDataDir } from "./spawn.ts";

/*
 * The JWKS fault matrix (P5.6–P5.8, P5.23) on the real process in real time, with another partner, B, under load all the while. Sets are
 * fresh for 60 s, the least there is, so that they run out in the middle of each fault.
 */

const FRESH_MS = 60_000;
/** It is fetched anew in the last fifth of its time. */
const FIRST_FETCH_MS = 48_000;
const RETRY_MS = 30_000;
/** Past the second fetch that fails, which finds the set stale. */
const FAULT_MS = FIRST_FETCH_MS + RETRY_MS + 7_000;
/** Between one partner's fault and the next one's: longer than a fetch may take. */
const STEP_MS = 8_000;
const A_PER_SECOND = 5;
const B_PER_SECOND = 100;
const CALM_MS = 10_000;
const COLD_MS_MAX = 6_000;

describe("the fault matrix", () => {
  const folder = makeDataDir();
  let healthy: JwksHost;
  let warmHosts: FaultHost[];
  let coldHosts: FaultHost[];
  let server: JwksProcess;
  let b: JwksPartner;
  beforeAll(async () => {
    const certificates = join(folder.path, "authority.pem");
    writeFileSync(certificates, AUTHORITY.cert);
    healthy = await startJwksHost();
    warmHosts = await startFaultHosts();
    coldHosts = await startFaultHosts();
    const hosts = [...warmHosts, ...coldHosts].map(({ host }) => host);
    server = await startJwksProcess([healthy, ...hosts], { NODE_EXTRA_CA_CERTS: certificates });
    b = await createJwksPartner(server, healthy, { "cache-control": "max-age=60" });
  });
  afterAll(async () => {
    console.log(
      `RSS of the server: ${/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.process.child.pid}/status`, "utf8"))?.[1]} kB at most`,
    );
    await server.kill();
    folder.remove();
    await Promise.all([healthy, ...[...warmHosts, ...coldHosts].map(({ host }) => host)].map((host) => host.stop()));
  });

  const loadOf = (partner: JwksPartner, perSecond: number) => startLoad(perSecond, () => exchange(partner, subjectToken(partner)));

  /** B alone, to compare with. */
  async function calm(load: Load): Promise<string> {
    const fromMs = performance.now();
    await sleep(CALM_MS);
    return latencies(between(load.samples, fromMs, performance.now()));
  }

  test("warm: each exchange succeeds during each fault, beyond the end of the set's freshness; B is untouched", async () => {
    const loadOfB = loadOf(b, B_PER_SECOND);
    const rows: string[] = [`B, calm: ${await calm(loadOfB)}`];

    async function run({ fault: { name, inject }, host }: FaultHost): Promise<{ samples: readonly Sample[]; fetches: number }> {
      const partner = await createJwksPartner(server, host, { "cache-control": "no-store" });
      expect((await exchange(partner, subjectToken(partner))).status, name).toBe(200);
      const warmMs = performance.now();
      const load = loadOf(partner, A_PER_SECOND);
      await inject(host, partner);
      partner.set.requestsSince();
      await sleep(FAULT_MS);
      const samples = await load.stop();
      const fetches = partner.set.requestsSince();
      const report = (await admin(server.at, "GET", `/partners/${partner.clientId}/keys`)).json as {
        failing: boolean;
        fresh_until: string;
      };
      expect(report, name).toMatchObject({ failing: true, fresh_until: expect.toSatisfy((text: string) => Date.parse(text) < Date.now()) });
      const stale = between(samples, warmMs + FRESH_MS, Infinity);
      const ofB = between(loadOfB.samples, warmMs + FIRST_FETCH_MS, warmMs + FIRST_FETCH_MS + STEP_MS);
      rows.push(
        `${name}: A ${samples.length - others(samples).length} of ${samples.length} granted, ${stale.length} of them after ${FRESH_MS / 1000} s; A ${latencies(samples)}; ${fetches} requests reached its host; B, ${ofB.length} exchanges: ${latencies(ofB)}`,
      );
      return { samples, fetches };
    }

    const runs = warmHosts.map(async (faultHost, index) => {
      await sleep(index * STEP_MS);
      return { fault: faultHost.fault, ...(await run(faultHost)) };
    });
    const results = await Promise.all(runs);
    const samplesOfB = await loadOfB.stop();
    console.log(`warm\n${rows.join("\n")}\nB, all of it: ${samplesOfB.length} exchanges, ${latencies(samplesOfB)}`);

    for (const { fault, samples, fetches } of results) {
      expect(others(samples), fault.name).toEqual([]);
      expect(samples.length, fault.name).toBeGreaterThan((A_PER_SECOND * FAULT_MS * 0.9) / 1000);
      // the host was asked during the fault, and the set stale: once early, once again after the cooldown
      const reached = fault.isTls || fault.name === "refuse" ? 0 : 2;
      expect(fetches, fault.name).toBe(reached);
    }
    expect(others(samplesOfB)).toEqual([]);
  });

  test("cold: each answer is a 503 with Retry-After, within 6 s; B is untouched", async () => {
    const loadOfB = loadOf(b, B_PER_SECOND);
    const rows: string[] = [`B, calm: ${await calm(loadOfB)}`];
    const results: { name: string; samples: readonly Sample[] }[] = [];
    for (const {
      fault: { name, inject },
      host,
    } of coldHosts) {
      const partner = await createJwksPartner(server, host);
      await inject(host, partner);
      const startMs = performance.now();
      const load = loadOf(partner, A_PER_SECOND * 4);
      await sleep(COLD_MS_MAX);
      const samples = await load.stop();
      const ofB = between(loadOfB.samples, startMs, performance.now());
      results.push({ name, samples });
      rows.push(`${name}: ${samples.length} answers, ${latencies(samples)}; B, ${ofB.length} exchanges: ${latencies(ofB)}`);
    }
    const samplesOfB = await loadOfB.stop();
    console.log(`cold\n${rows.join("\n")}\nB, all of it: ${samplesOfB.length} exchanges, ${latencies(samplesOfB)}`);

    for (const { name, samples } of results) {
      expect(others(samples, 503), name).toEqual([]);
      expect(samples.length, name).toBeGreaterThan(50);
      for (const { text, retryAfter, ms } of samples) {
        expect(JSON.parse(text), name).toMatchObject({ error: "temporarily_unavailable" });
        expect(text, name).toContain("partner_keys_unavailable");
        expect(Number(retryAfter), name).toBeGreaterThanOrEqual(1);
        expect(Number(retryAfter), name).toBeLessThanOrEqual(30);
        expect(ms, name).toBeLessThan(COLD_MS_MAX);
      }
    }
    expect(others(samplesOfB)).toEqual([]);
  });
});
