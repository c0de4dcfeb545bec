import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { createTestDatabase } from "../../packages/server/src/testing/database.ts";
import { type JwksHost, startJwksHost } from "../../packages/server/src/testing/jwks-host.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { exchange, subjectToken } from "../../packages/server/src/testing/server.ts";
import { createJwksPartner, type JwksProcess, startJwksProcess } from "./jwks-partner.ts";
import { latencies, others, type Sample, startLoad } from "./load.ts";

/* Partners that rotate their keys every minute under load, on the real process in real time: P5.11, P5.12. */

const ROTATE_EVERY_MS = 60_000;
const ROTATIONS = 4;
const REST_MS = 5_000;
const PER_SECOND = 25;
/** What a partner may say of its set: fresh for a minute, for the five that are taken for granted, and for the ten that are the most. */
const HEADERS: readonly Record<string, string>[] = [{ "cache-control": "no-store" }, {}, { "cache-control": "max-age=31536000" }];

interface Rotation {
  readonly samples: readonly Sample[];
  readonly fetches: number;
}

/**
 * The next key is published beside the last one, signs at once, and takes the place of the one before the last: of a set of two, the older
 * one goes at each turn.
 */
async function rotate(nodes: readonly JwksProcess[], host: JwksHost, headers: Record<string, string>): Promise<Rotation> {
  const [first] = nodes as [JwksProcess];
  const partner = await createJwksPartner(first, host, headers);
  let { key } = partner;
  let sent = 0;
  const load = startLoad(PER_SECOND, () =>
    exchange(partner, subjectToken({ ...partner, key }), { at: nodes[sent++ % nodes.length]?.at ?? first.at }),
  );
  for (let rotation = 0; rotation < ROTATIONS; rotation++) {
    await sleep(ROTATE_EVERY_MS);
    const next = makeTestKey("ES256");
    partner.set.publish([next, key], headers);
    key = next;
  }
  await sleep(REST_MS);
  return { samples: await load.stop(), fetches: partner.set.requestsSince() };
}

async function expectNoneRefused(what: string, nodes: readonly JwksProcess[], host: JwksHost): Promise<void> {
  const results = await Promise.all(HEADERS.map((headers) => rotate(nodes, host, headers)));
  const rows = results.map(({ samples, fetches }, index) => {
    const refused = samples.filter(({ status }) => status !== 200).length;
    return `${JSON.stringify(HEADERS[index])}: ${samples.length} exchanges, ${refused} refused, ${latencies(samples)}; ${fetches} fetches`;
  });
  console.log(`${ROTATIONS} rotations, one a minute, ${what}\n${rows.join("\n")}`);
  for (const { samples, fetches } of results) {
    expect(others(samples)).toEqual([]);
    expect(samples.length).toBeGreaterThan((PER_SECOND * ROTATIONS * ROTATE_EVERY_MS * 0.9) / 1000);
    expect(fetches).toBeGreaterThan(ROTATIONS); // each of them was seen
  }
}

/** The two wait for the minutes together. */
describe.concurrent("a partner that rotates its keys every minute under load sees no refused exchange", () => {
  test("on one node", async () => {
    const host = await startJwksHost();
    const node = await startJwksProcess([host]);
    try {
      await expectNoneRefused("one node on SQLite", [node], host);
    } finally {
      await node.kill();
      await host.stop();
    }
  });

  test("on two nodes of one PostgreSQL, each in turn", async () => {
    const host = await startJwksHost();
    const database = await createTestDatabase("postgres");
    const env = {
      DATABASE_URL: "postgresUrl" in database.location ? database.location.postgresUrl : "",
      CAMBIST_MASTER_KEY: randomBytes(32).toString("base64"),
    };
    const nodes: JwksProcess[] = [];
    try {
      for (let i = 0; i < 2; i++) nodes.push(await startJwksProcess([host], env));
      await expectNoneRefused("two nodes on PostgreSQL", nodes, host);
    } finally {
      for (const node of nodes) await node.kill();
      await host.stop();
      await database.drop();
    }
  });
});
