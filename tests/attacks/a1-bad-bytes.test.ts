/** Attack case P1.19 at large: NUL, controls, broken escapes and invalid UTF-8 in every parameter. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  type Reply,
  send,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectAnswer, expectRecorded } from "./expect-answers.ts";
import { expectRefusal } from "./expect-refusal.ts";
import { freshForm, postRaw } from "./raw.ts";

const FORM_HEADERS = { "content-type": "application/x-www-form-urlencoded" };
const REQUIRED = ["grant_type", "subject_token", "subject_token_type", "client_id", "client_secret"];
const OPTIONAL = [
  "scope",
  "requested_token_type",
  "audience",
  "resource",
  "actor_token",
  "actor_token_type",
  "client_assertion",
  "client_assertion_type",
  "unknown",
];
const PARAMETERS = [...REQUIRED, ...OPTIONAL];

/** Percent-encoded or as raw bytes, one character per byte. Each with whether it is text that a form can hold. */
const BAD: readonly { bytes: string; decodes: boolean }[] = [
  ...["%00", "\0", "%0d%0aX:%201", "\r\n", "%EF%BF%BD", "%EF%BB%BF", "%EF%BF%BF", "%E2%80%AE", "%F0%9F%92%A9", "%7f", "\x1b[31m"].map(
    (bytes) => ({ bytes, decodes: true }),
  ),
  ...[
    "%zz",
    "%",
    "%f",
    "%u0041",
    "%ff",
    "%fe%ff",
    "%c0%80",
    "%c1%9f",
    "%e0%80%af",
    "%ed%a0%80",
    "%ed%b0%80",
    "%f4%90%80%80",
    "%f8%88%80%80%80",
    "%80",
    "%e2%82",
    "\xff",
    "\xe9",
    "\xc3\xa9",
    "\xc0\x80",
  ].map((bytes) => ({ bytes, decodes: false })),
];

/** ECDSA: signing costs no time. */
const KEY = makeTestKey("ES256");

describe.each(DIALECTS)("A1 bad bytes on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server, {}, KEY);
  });
  afterAll(() => server.stop());

  const postBytes = (body: string) => send(server, "POST", "/oauth2/token", { headers: FORM_HEADERS, body: Buffer.from(body, "latin1") });

  test("P1.19 400, 401: bad bytes in, before, after and as the name of every parameter, never 500", async () => {
    const replies: Reply[] = [];
    const misread: string[] = [];
    for (const name of PARAMETERS) {
      for (const { bytes, decodes } of BAD) {
        const form = freshForm(partner);
        const value = encodeURIComponent(form.get(name) ?? "");
        form.delete(name);
        for (const pair of [`${name}=${value}${bytes}`, `${name}=${bytes}${value}`, `${name}${bytes}=${value}`]) {
          const reply = await postBytes(`${form.toString()}&${pair}`);
          expectAnswer(reply);
          // text that a form can hold passes in a parameter that nobody reads, and nowhere else
          const isUnread = name === "unknown" || (pair.startsWith(`${name}${bytes}`) && OPTIONAL.includes(name));
          const fits = decodes ? reply.status !== 200 || isUnread : String(reply.json["error_uri"]).endsWith("/form_malformed");
          if (!fits) misread.push(`${pair}: ${reply.status} ${reply.text}`);
          replies.push(reply);
        }
      }
    }
    expect(misread).toEqual([]);
    await expectRecorded(server, replies);
  });

  test("P1.19 400: NUL and every bad byte get the common promises, too", async () => {
    for (const { bytes, decodes } of BAD) {
      const form = freshForm(partner);
      const secret = form.get("client_secret") ?? "";
      form.delete("client_secret");
      const reply = await postRaw(server, `${form.toString()}&client_secret=${secret}${bytes}`);
      const refused = { status: 401, error: "invalid_client", code: "client_not_authenticated" } as const;
      await expectRefusal(server, reply, decodes ? refused : { code: "form_malformed" });
    }
  });
});
