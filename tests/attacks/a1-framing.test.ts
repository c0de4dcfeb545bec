/** Attack cases A1, HTTP framing of a token request: query, media type, method, sizes, repeated and surplus parameters. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createTestPartner,
  exchange,
  send,
  sendRaw,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectControl, expectRefusal } from "./expect-refusal.ts";
import { basicLine, freshForm, parseRawReply, postRaw, rawTokenRequest } from "./raw.ts";

const FORM_TYPE = "application/x-www-form-urlencoded";
const FORM_HEADERS = { "content-type": FORM_TYPE };
const NOT_A_FORM = { code: "media_type_unsupported" } as const;
const TOO_LARGE = { status: 413, code: "body_too_large" } as const;
const many = (count: number) => Array.from({ length: count }, (_, index) => `&p${index}=1`).join("");
const BODY_BYTES_MAX = 64 * 1024;

describe("A1 HTTP framing", () => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    partner = await createTestPartner(server);
  });
  afterAll(() => server.stop());

  /** What the server need not read to its end, and so waits for the rest of, or not. */
  const sendToAnswer = (request: string | Uint8Array) => sendRaw(server, request, 20_000, (received) => /\r\n\r\n\{[^]*\}$/.test(received));
  const postForm = (body: string) => send(server, "POST", "/oauth2/token", { headers: FORM_HEADERS, body });

  test("P1.9 400: client_secret in the query; its value is in no log line and in no row", async () => {
    const secret = randomBytes(16).toString("hex");
    const queries = [`client_secret=${secret}`, `client_id=${partner.clientId}&client_secret=${secret}`, `x=${secret}`, ""];
    for (const query of queries) {
      const request = rawTokenRequest(freshForm(partner).toString()).toString("latin1");
      const reply = parseRawReply(await sendRaw(server, request.replace("/oauth2/token", `/oauth2/token?${query}`)));
      await expectRefusal(server, reply, { code: "parameters_in_query" });
      const rows = await server.database.query("SELECT * FROM exchanges WHERE trace_id = $1", [reply.json["trace_id"] as string]);
      expect(reply.text + JSON.stringify(rows) + server.logLines.join("")).not.toContain(secret);
    }
  });

  test("P1.9 405, 400: nor where the method or the media type is wrong as well", async () => {
    const secret = randomBytes(16).toString("hex");
    const path = `/oauth2/token?client_secret=${secret}`;
    await expectRefusal(server, await send(server, "GET", path), { status: 405, code: "method_not_allowed" });
    const json = await send(server, "POST", path, { headers: { "content-type": "application/json" }, body: "{}" });
    await expectRefusal(server, json, { code: "parameters_in_query" });
    expect(server.logLines.join("")).not.toContain(secret);
  });

  test("P1.10 400: a parameter twice, with the same value, another, or none", async () => {
    const repeated = { code: "parameter_repeated" } as const;
    for (const name of ["grant_type", "subject_token", "subject_token_type", "client_id", "client_secret"]) {
      for (const value of [freshForm(partner).get(name) ?? "", "other", ""]) {
        const form = freshForm(partner);
        form.append(name, value);
        await expectRefusal(server, await postForm(form.toString()), repeated);
      }
    }
    for (const extra of [
      "scope=thread&scope=thread",
      "scope=&scope=",
      "unknown=1&unknown=1",
      "grant%5ftype=x",
      "grant_typ%65=x",
      "a&a",
      "=&=",
    ]) {
      await expectRefusal(server, await postForm(`${freshForm(partner).toString()}&${extra}`), repeated);
    }
  });

  test("P1.11 200: an empty scope is as none at all", async () => {
    const omitted = await exchange(partner, subjectToken(partner));
    const empty = await exchange(partner, subjectToken(partner), { form: { scope: "" } });
    expect(omitted.json["scope"]).toBe("account-management analytics");
    expect(empty).toMatchObject({ status: 200, json: { scope: omitted.json["scope"] as string } });
    const bare = await postForm(`${freshForm(partner).toString()}&scope`);
    expect(bare).toMatchObject({ status: 200, json: { scope: omitted.json["scope"] as string } });
  });

  test("P1.12 400: JSON, and a form that calls itself JSON", async () => {
    const headers = { "content-type": "application/json" };
    for (const body of [JSON.stringify(Object.fromEntries(freshForm(partner))), freshForm(partner).toString(), "{", ""]) {
      await expectRefusal(server, await send(server, "POST", "/oauth2/token", { headers, body }), NOT_A_FORM);
    }
  });

  const ODD_TYPES = [
    `${FORM_TYPE}\t;a=b`,
    `${FORM_TYPE};a=b`,
    `${FORM_TYPE}; charset=latin1`,
    `${FORM_TYPE}; charset=utf-8; charset=utf-7`,
    `${FORM_TYPE};`,
    `${FORM_TYPE}, application/json`,
    `${FORM_TYPE} application/json`,
    `${FORM_TYPE}\xa0`,
    `\xa0${FORM_TYPE}`,
    `"${FORM_TYPE}"`,
    "application/x-www-form-urlencode",
    "multipart/form-data; boundary=x",
    "text",
    "text/[html]",
    "text/plain",
    "</><script>",
    "*/*",
    "",
    "x".repeat(2_000),
  ];
  const shortened = ODD_TYPES.map((type) => ({ type, title: JSON.stringify(type.slice(0, 80)) }));
  test.each(shortened)("P1.13 400: Content-Type $title is refused, never left unread", async ({ type }) => {
    const reply = await postRaw(server, freshForm(partner).toString(), [], `Content-Type: ${type}`);
    await expectRefusal(server, reply, NOT_A_FORM);
  });

  test("P1.13 400: no Content-Type, with a body and without one", async () => {
    await expectRefusal(server, await postRaw(server, freshForm(partner).toString(), [], ""), NOT_A_FORM);
    await expectRefusal(server, await postRaw(server, "", [], ""), NOT_A_FORM);
  });

  /** The leading space of P1.13 never arrives: HTTP takes white space off both ends of a field value (RFC 9110 §5.5). */
  test("P1.13 200: white space around the right media type is HTTP's own; letter case and charset=utf-8 are free", async () => {
    const right = [`Content-Type:   ${FORM_TYPE}`, `Content-Type:\t${FORM_TYPE}\t `, `content-type:${FORM_TYPE.toUpperCase()}`];
    const withCharset = ["charset=utf-8", 'charset="UTF-8"', "Charset=Utf-8"].map((charset) => `Content-Type: ${FORM_TYPE}; ${charset}`);
    for (const line of [...right, ...withCharset]) {
      expect((await postRaw(server, freshForm(partner).toString(), [], line)).status).toBe(200);
    }
  });

  test.each(["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])("P1.14 405: %s, and Allow says POST", async (method) => {
    const body = method === "GET" ? {} : { headers: FORM_HEADERS, body: freshForm(partner).toString() };
    const reply = await send(server, method, "/oauth2/token", body);
    await expectRefusal(server, reply, { status: 405, code: "method_not_allowed" });
    expect(reply.headers.get("allow")).toBe("POST");
  });

  test("P1.14 405: HEAD; methods that are not HTTP's everyday ones are refused too", async () => {
    const head = await send(server, "HEAD", "/oauth2/token");
    expect(head).toMatchObject({ status: 405, text: "" });
    expect(head.headers.get("allow")).toBe("POST");
    for (const method of ["TRACE", "PROPFIND", "QUERY", "LINK", "BREW", "post"]) {
      const received = await sendRaw(server, `${method} /oauth2/token HTTP/1.1\r\nHost: cambist.test\r\nConnection: close\r\n\r\n`);
      expect([400, 404, 405]).toContain(parseRawReply(received).status);
      await expectControl(server);
    }
    expect(await sendRaw(server, "CONNECT /oauth2/token HTTP/1.1\r\nHost: cambist.test\r\n\r\n")).toBe("");
    expect(server.logLines.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  });

  test("P1.18 413: a body of 1 MB is refused before it is sent", async () => {
    const beginning = `POST /oauth2/token HTTP/1.1\r\nHost: cambist.test\r\nContent-Type: ${FORM_TYPE}\r\nContent-Length: ${1024 * 1024}\r\n\r\n`;
    for (const sent of [beginning, `${beginning}grant_type=`]) {
      await expectRefusal(server, parseRawReply(await sendToAnswer(sent)), TOO_LARGE);
    }
  });

  test("P1.18 413: a chunked body is refused when 64 KB of it have come, not at its end", async () => {
    const head = `POST /oauth2/token HTTP/1.1\r\nHost: cambist.test\r\nContent-Type: ${FORM_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const chunk = `4000\r\n${"a".repeat(0x4000)}\r\n`;
    await expectRefusal(server, parseRawReply(await sendToAnswer(head + chunk.repeat(5))), TOO_LARGE);
    // three chunks are within the limit: the server waits for more
    expect(await sendRaw(server, head + chunk.repeat(3), 300)).toBe("");
  });

  test("P1.18 413: one byte over 64 KB; 64 KB are read", async () => {
    const body = freshForm(partner).toString();
    const padded = (bytes: number) => `${body}&unknown=${"x".repeat(bytes - body.length - "&unknown=".length)}`;
    await expectRefusal(server, await postForm(padded(BODY_BYTES_MAX + 1)), TOO_LARGE);
    expect((await postForm(padded(BODY_BYTES_MAX))).status).toBe(200);
  });

  test("400: a body with two lengths is no HTTP (request smuggling)", async () => {
    const body = freshForm(partner).toString();
    for (const line of ["Transfer-Encoding: chunked", "Content-Length: 1", "Transfer-Encoding: identity"]) {
      const received = await sendToAnswer(rawTokenRequest(body, [line]));
      expect(parseRawReply(received).status).toBe(400);
      await expectControl(server);
    }
  });

  test("400: 65 parameters, empty ones counted; 64 pass", async () => {
    const own = [...freshForm(partner)].length;
    expect((await postForm(freshForm(partner).toString() + many(64 - own))).status).toBe(200);
    for (const extra of [many(65 - own), "&".repeat(64), many(10_000)]) {
      const refused = await postForm(freshForm(partner).toString() + extra);
      await expectRefusal(server, refused, extra.length > BODY_BYTES_MAX ? TOO_LARGE : { code: "parameters_too_many" });
    }
  });

  test("400: an empty body, and one that is no form; 401 before anything else is said to a stranger", async () => {
    const missing = { status: 401, error: "invalid_client", code: "client_authentication_missing" } as const;
    for (const body of ["", "&&&", "=", "{}", "<xml/>"]) await expectRefusal(server, await postForm(body), missing);
    const line = basicLine(`${partner.clientId}:${partner.clientSecret}`);
    await expectRefusal(server, await postRaw(server, "", [line]), { code: "parameter_missing" });
  });
});
