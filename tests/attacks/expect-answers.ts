import { expect } from "vitest";
import type { Reply, TestServer } from "../../packages/server/src/testing/server.ts";
import { expectControl, expectNothingSecret, expectNothingSecretLogged } from "./expect-refusal.ts";

/** RFC 6749 §5.2. */
const DESCRIPTION = /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/;

/** What any answer of the token endpoint keeps, whatever was sent. */
export function expectAnswer(reply: Reply): void {
  expect([200, 400, 401, 413]).toContain(reply.status);
  expect(reply.headers.get("cache-control")).toBe("no-store");
  if (reply.status === 200) return;
  expect(reply.json["error_description"]).toMatch(DESCRIPTION);
  expectNothingSecret(reply.text);
}

/** Of many replies at once: each refusal is recorded once, rows and log lines are whole and hold nothing secret, and the server goes on. */
export async function expectRecorded(server: TestServer, replies: readonly Reply[]): Promise<void> {
  const rows = await server.database.query("SELECT * FROM exchanges WHERE outcome = 'refused'");
  const perTrace = new Map<unknown, number>();
  for (const { trace_id } of rows) perTrace.set(trace_id, (perTrace.get(trace_id) ?? 0) + 1);
  const refused = replies.filter(({ status }) => status !== 200).map(({ json }) => json["trace_id"] as string);
  expect(refused.filter((traceId) => perTrace.get(traceId) !== 1)).toEqual([]);
  expectNothingSecret(...rows.map((row) => JSON.stringify(row)));
  for (const { refusal_detail } of rows) expect(JSON.parse(refusal_detail as string)).toHaveProperty("code");
  expectNothingSecretLogged(server);
  for (const line of server.logLines) expect(line).toMatch(/^\{[^\r\n]*\}\n$/);
  await expectControl(server);
}
