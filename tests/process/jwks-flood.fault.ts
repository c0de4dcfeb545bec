import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { startJwksHost } from "../../packages/server/src/testing/jwks-host.ts";
import { encodePart } from "../../packages/server/src/testing/jwt.ts";
import { exchange, subjectClaims, subjectToken } from "../../packages/server/src/testing/server.ts";
import { createJwksPartner, type JwksPartner, startJwksProcess } from "./jwks-partner.ts";
import { between, latencies, others, startLoad } from "./load.ts";

/* P5.9, P5.10 on the real process in real time. */

const KIDS_PER_SECOND = 1_000;
const FLOOD_MS = 60_000;
const CALM_MS = 10_000;

test("1 000 random kids a second for 60 s: at most 3 fetches; B untouched, and A's own good tokens granted", async () => {
  const host = await startJwksHost();
  const server = await startJwksProcess([host]);
  try {
    const [a, b] = [await createJwksPartner(server, host), await createJwksPartner(server, host)];
    const [loadOfA, loadOfB] = [a, b].map((partner) => startLoad(50, () => exchange(partner, subjectToken(partner))));
    const calmMs = performance.now();
    await sleep(CALM_MS);
    for (const { set } of [a, b]) set.requestsSince();
    const floodMs = performance.now();
    const flood = startLoad(KIDS_PER_SECOND, floodOf(a));
    await sleep(FLOOD_MS);
    const [fetchesOfA, fetchesOfB] = [a, b].map(({ set }) => set.requestsSince());
    const endMs = performance.now();
    const refused = await flood.stop();
    const [good, ofB] = [(await loadOfA?.stop()) ?? [], (await loadOfB?.stop()) ?? []];
    console.log(
      [
        `flood: ${refused.length} random kids in ${Math.round((endMs - floodMs) / 1000)} s, ${latencies(refused)}; ${fetchesOfA} fetches of A's set, ${fetchesOfB} of B's`,
        `A's own: calm ${latencies(between(good, calmMs, floodMs))}; during the flood, ${between(good, floodMs, endMs).length} exchanges: ${latencies(between(good, floodMs, endMs))}`,
        `B: calm ${latencies(between(ofB, calmMs, floodMs))}; during the flood, ${between(ofB, floodMs, endMs).length} exchanges: ${latencies(between(ofB, floodMs, endMs))}`,
      ].join("\n"),
    );
    expect(refused.length).toBeGreaterThan((KIDS_PER_SECOND * FLOOD_MS * 0.95) / 1000);
    expect(others(refused, 400)).toEqual([]);
    expect(refused.filter(({ text }) => !text.includes("/jwt_kid_unknown"))).toEqual([]);
    expect(fetchesOfA).toBeGreaterThanOrEqual(1);
    expect(fetchesOfA).toBeLessThanOrEqual(3);
    expect(fetchesOfB).toBe(0);
    for (const samples of [good, ofB]) {
      expect(others(samples)).toEqual([]);
      expect(samples.length).toBeGreaterThan(3_000);
    }
  } finally {
    await server.kill();
    await host.stop();
  }
});

/** Nobody looks at a signature before there is a key. */
function floodOf(partner: JwksPartner): () => ReturnType<typeof exchange> {
  const rest = `${encodePart(subjectClaims(partner))}.${Buffer.alloc(64, 1).toString("base64url")}`;
  return () => exchange(partner, `${encodePart({ alg: "ES256", kid: randomUUID() })}.${rest}`);
}
