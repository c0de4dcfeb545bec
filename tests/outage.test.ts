import { openSqlite } from "../packages/server/src/storage/dialects/sqlite-driver.ts";
import { connect, createServer, type Socket } from "node:net";
import { describe, expect, inject, test } from "vitest";
import {
  admin,
  call,
  createTestPartner,
  exchange,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
} from "../packages/server/src/testing/server.ts";

describe("when the store is away", () => {
  test(
    "SQLite held by another process: an exchange waits, then 503 with Retry-After, nothing spent; reads go on; it recovers",
    { timeout: 30_000 },
    async () => {
      const server = await startTestServer("sqlite");
      const partner = await createTestPartner(server);
      const token = await serviceAccountToken(partner);
      const other = await openSqlite("sqlitePath" in server.database.location ? server.database.location.sqlitePath : "");
      other.exec("BEGIN IMMEDIATE");
      const subject = subjectToken(partner);
      const waiting = exchange(partner, subject);
      expect((await call(server, "GET", "/v2/account-management/user?user_id=x", token)).status).toBe(404);
      expect((await send(server, "GET", "/readyz")).status).toBe(200);
      const refused = await waiting;
      expect(refused).toMatchObject({ status: 503, json: { error: "temporarily_unavailable" } });
      expect(refused.headers.get("retry-after")).toBe("1");
      expect((await call(server, "PUT", "/v2/account-management/organization-and-workspace", token, {})).status).toBe(503);
      const late = exchange(partner, subject);
      other.exec("ROLLBACK");
      expect((await late).status).toBe(200);
      other.close();
      await server.stop();
    },
  );

  test(
    "PostgreSQL cut off: 503 with Retry-After within seconds, not ready, alive; it recovers, and the subject token is not lost",
    { timeout: 30_000 },
    async () => {
      const line = await openLine(new URL(inject("postgresUrl")));
      const server = await startTestServer("postgres", {}, (url) => url.replace(/@[^/]+/, `@127.0.0.1:${line.port}`));
      const partner = await createTestPartner(server);
      const token = await serviceAccountToken(partner);
      const subject = subjectToken(partner);
      line.cut();
      const refused = await Promise.all([exchange(partner, subject), exchange(partner, subjectToken(partner))]);
      for (const reply of refused) {
        expect(reply).toMatchObject({ status: 503, json: { error: "temporarily_unavailable" } });
        expect(reply.headers.get("retry-after")).toBe("1");
      }
      expect((await call(server, "GET", "/v2/account-management/user?external_user_id=x", token)).status).toBe(503);
      expect((await admin(server, "GET", "/partners")).status).toBe(503);
      expect((await send(server, "GET", "/readyz")).status).toBe(503);
      expect((await send(server, "GET", "/livez")).status).toBe(200);
      line.restore();
      expect((await exchange(partner, subject)).status).toBe(200);
      expect((await send(server, "GET", "/readyz")).status).toBe(200);
      await server.stop();
      line.close();
    },
  );
});

/** A TCP line to PostgreSQL that can be cut. */
async function openLine(target: URL): Promise<{ port: number; cut(): void; restore(): void; close(): void }> {
  const ends = new Set<Socket>();
  let isCut = false;
  const listener = createServer((near) => {
    if (isCut) return void near.destroy();
    const far = connect(Number(target.port), target.hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      ends.add(from);
      from.pipe(to);
      from.on("error", () => undefined);
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    cut() {
      isCut = true;
      for (const end of ends) end.destroy();
    },
    restore: () => void (isCut = false),
    close: () => void listener.close(),
  };
}
