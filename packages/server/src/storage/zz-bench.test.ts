import { expect, test, describe } from "vitest";
import { openTestStore, createHome, createUser, NOW } from "../testing/store.ts";
import { randomUUID } from "node:crypto";
describe.each(["sqlite", "postgres"] as const)("%s", (d) => {
  test("del", async () => {
    const o = await openTestStore(d);
    const p = await o.createPartner();
    const { workspaceId } = await createHome(o.nodes[0], p.clientId);
    const u = await createUser(o.nodes[0], p.clientId, workspaceId);
    const owner = { partnerId: p.clientId, userId: u.user_id };
    const id = randomUUID();
    expect(await o.nodes[0].threads.create(owner, { threadId: id, name: "x" }, NOW)).toBe("created");
    const isS = d === "sqlite";
    const uid = isS ? "lower(hex(randomblob(16)))" : "gen_random_uuid()";
    await o.database
      .query(`INSERT INTO thread_messages (partner_id, thread_id, position, message_id, task_id, is_user_message, message, citations, sent_at)
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < 99999) SELECT '${p.clientId}', '${id}', i, ${uid}, ${uid}, i % 2, '"' || '${"x".repeat(300)}' || '"', '[]', ${NOW} + i FROM n`);
    await o.database.query(`INSERT INTO thread_events (partner_id, thread_id, first_id, last_id, events)
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 50000) SELECT '${p.clientId}', '${id}', i, i, '[["message",{"message":"${"x".repeat(400)}"}]]' FROM n`);
    let t = performance.now();
    for (const after of [0, 25000, 49990]) {
      t = performance.now();
      const got = await o.nodes[0].threads.readEvents({ ...owner, threadId: id, lastEventId: after }, 100000);
      console.log(d, "readEvents", after, got.length, performance.now() - t);
    }
    let last = performance.now(),
      gap = 0;
    const timer = setInterval(() => {
      const n = performance.now();
      gap = Math.max(gap, n - last);
      last = n;
    }, 1);
    t = performance.now();
    expect(await o.nodes[0].threads.delete(owner, id)).toBe(true);
    const took = performance.now() - t;
    await new Promise((r) => setTimeout(r, 20));
    clearInterval(timer);
    console.log(d, "delete", took, "loop held", gap);
    await o.close();
  });
});
