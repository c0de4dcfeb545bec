/** Attack cases A1 and P8.14 at large: values that the answer says again, and random changes to whole requests. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  exchange,
  type Reply,
  send,
  sendRaw,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectAnswer, expectRecorded } from "./expect-answers.ts";
import { expectControl, expectRefusal } from "./expect-refusal.ts";
import { freshForm, rawTokenRequest } from "./raw.ts";

const FORM_HEADERS = { "content-type": "application/x-www-form-urlencoded" };

/** ECDSA: signing costs no time. */
const KEY = makeTestKey("ES256");

describe.each(DIALECTS)("A1 hostile values and random requests on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server, {}, KEY);
  });
  afterAll(() => server.stop());

  const postBytes = (body: string) => send(server, "POST", "/oauth2/token", { headers: FORM_HEADERS, body: Buffer.from(body, "latin1") });

  const HOSTILE = [
    "x\r\nSet-Cookie: a=b\r\n\r\n<html>",
    '"\\"}],{"x":"',
    "\\",
    "\u{1f4a9}é\u2028\u202e",
    "\0\x1b[2J\x7f\t",
    "%0d%0a",
    "<script>alert(1)</script>",
    "'",
    "x".repeat(30_000),
    "\u{1f4a9}".repeat(2_000),
  ];

  test.each(HOSTILE)("P8.14 400: a value that is said again forges no header, no JSON and no log line (%#)", async (value) => {
    const grant = await exchange(partner, subjectToken(partner), { form: { grant_type: value } });
    await expectRefusal(server, grant, { error: "unsupported_grant_type", code: "grant_type_unsupported" });
    const type = await exchange(partner, subjectToken(partner), { form: { subject_token_type: value } });
    await expectRefusal(server, type, { code: "subject_token_type_unsupported" });
    const requested = await exchange(partner, subjectToken(partner), { form: { requested_token_type: value } });
    await expectRefusal(server, requested, { code: "requested_token_type_unsupported" });
    const name = encodeURIComponent(value);
    const repeated = name.length < 30_000 ? await postBytes(`${freshForm(partner).toString()}&${name}=1&${name}=1`) : undefined;
    if (repeated) await expectRefusal(server, repeated, { code: "parameter_repeated" });
    for (const reply of [grant, type, requested, ...(repeated ? [repeated] : [])]) {
      expect(reply.headers.has("set-cookie")).toBe(false);
      expect(Object.keys(reply.json)).toEqual(["error", "error_description", "error_uri", "trace_id"]);
      expect((reply.json["error_description"] as string).length).toBeLessThan(300);
    }
    await expectRecorded(server, [grant, type, requested]);
  });

  test("200: exchanges are not spoilt by requests that are recorded with them and whose connection broke", async () => {
    const broken = Buffer.concat([rawTokenRequest("x=1"), Buffer.from("no HTTP\r\n\r\n")]);
    const tokens = Array.from({ length: 40 }, () => subjectToken(partner));
    const replies = await Promise.all(
      tokens.map(async (token) => {
        const [reply] = await Promise.all([exchange(partner, token), sendRaw(server, broken, 200), sendRaw(server, broken, 200)]);
        return reply;
      }),
    );
    expect(replies.filter(({ status }) => status !== 200).map(({ text }) => text)).toEqual([]);
    expect(server.logLines.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  });

  test("never 500: 300 bodies with random changes, from one seed", async () => {
    const random = seeded(20_260_101);
    const replies: Reply[] = [];
    for (let round = 0; round < 300; round++) {
      const reply = await postBytes(mutated(freshForm(partner).toString(), random));
      expectAnswer(reply);
      replies.push(reply);
    }
    expect(replies.filter(({ status }) => status !== 200).length).toBeGreaterThan(150);
    await expectRecorded(server, replies);
  });

  test("never 500: 100 requests with random changes in their heads, too", async () => {
    const random = seeded(4_711);
    const requests = Array.from({ length: 100 }, () => mutated(rawTokenRequest(freshForm(partner).toString()).toString("latin1"), random));
    const answers = await Promise.all(requests.map((request) => sendRaw(server, Buffer.from(request, "latin1"), 700)));
    expect(answers.filter((answer) => /^HTTP\/1\.1 5/m.test(answer))).toEqual([]);
    expect(server.logLines.filter((line) => line.includes('"level":"error"'))).toEqual([]);
    await expectControl(server);
  });
});

/** Mulberry32: the same numbers on every run. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const PIECES = [
  "&",
  "=",
  "%",
  "%00",
  "%ff",
  "+",
  "\0",
  "\r\n",
  ";",
  "&&",
  "==",
  "scope=",
  "&grant_type=",
  "&client_id=",
  "é",
  "{",
  '"',
  "%F0%9F%92%A9",
  ".",
];

/** One to four changes: a byte, a cut, a repetition, a piece of syntax, the end gone. */
function mutated(text: string, random: (below: number) => number): string {
  let changed = text;
  for (let change = random(4); change >= 0; change--) {
    const at = random(changed.length + 1);
    const length = random(30);
    const [before, after] = [changed.slice(0, at), changed.slice(at)];
    const kinds = [
      () => before + String.fromCharCode(random(256)) + after.slice(1),
      () => before + after.slice(length),
      () => before + after.slice(0, length) + after,
      () => before + (PIECES[random(PIECES.length)] ?? "") + after,
      () => (random(4) === 0 ? before : changed),
    ];
    changed = kinds[random(kinds.length)]?.() ?? changed;
  }
  return changed;
}
