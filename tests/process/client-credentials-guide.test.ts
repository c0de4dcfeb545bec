import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { envelopeAnswer } from "../../packages/server/src/http/envelope.ts";
import { asShown, Guide, seenAnswers, statusesOf, type Walk } from "./guide.ts";

const guide = new Guide("client-credentials.md");

describe("docs/client-credentials.md, walked from top to bottom in one bash session", () => {
  let walk: Walk;
  beforeAll(async () => {
    walk = await guide.walk();
  });
  afterAll(() => walk.stop());

  test("each call is answered with the status that stands beside it", () => {
    const { calls } = walk;
    expect(calls.map(({ operation, status }) => `${operation} ${status}`)).toEqual(
      guide.scripts.flatMap(statusesOf).map((status, index) => `${calls[index]?.operation} ${status}`),
    );
    const operations = ["/oauth2/token", "/v1/auth/token", "/oauth2/introspect", "/oauth2/revoke"].map((path) => `POST ${path}`);
    expect(operations.filter((operation) => !calls.some((call) => call.operation === operation))).toEqual([]);
  });

  test("the reader sees each status and answer", () => {
    expect(seenAnswers(walk)).toEqual(walk.calls.flatMap(({ status, body }) => [String(status), body]));
  });

  test("each answer is the one that is shown below its block", () => {
    const shown = guide.shownAnswers();
    expect(walk.calls.length).toBeGreaterThan(10);
    expect(walk.calls.map(({ body }, index) => asShown(JSON.parse(body), shown[index]))).toEqual(shown);
  });

  test("its table has every error of the envelope, word by word", () => {
    const rows = [...guide.text.matchAll(/^\| (\d{3}) \| `(\d{6})` \| `(\w+)` \| ([^|]+) \|/gm)].map(
      ([, status, code, code_reason, message]) => ({ status: Number(status), body: { error: { code, code_reason, message } } }),
    );
    expect(rows.map(({ status }) => status)).toEqual([400, 401, 403, 404, 405, 413, 415, 429, 500, 503]);
    for (const row of rows) expect(envelopeAnswer(row.status)).toMatchObject(row);
  });
});
