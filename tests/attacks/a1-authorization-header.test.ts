/** Attack cases A1, what stands in the Authorization header: its encoding, its scheme, two of them, too much of it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  basic,
  createTestPartner,
  type Reply,
  sendRaw,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectControl, expectRefusal } from "./expect-refusal.ts";
import { basicLine, freshForm, parseRawReply, postRaw, rawTokenRequest } from "./raw.ts";

const NOT_AUTHENTICATED = { status: 401, error: "invalid_client", code: "client_not_authenticated" } as const;
const everyCharacter = (text: string) => text.replaceAll(/[\s\S]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);

describe("A1 the Authorization header", () => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    partner = await createTestPartner(server);
  });
  afterAll(() => server.stop());

  const byHeader = (line: string): Promise<Reply> => postRaw(server, freshForm(partner, "none").toString(), [line]);
  const refusedBasic = async (line: string) => expectRefusal(server, await byHeader(line), NOT_AUTHENTICATED);

  test("P1.3 200: Basic may percent-encode any character of the pair (RFC 6749 §2.3.1)", async () => {
    const { clientId, clientSecret } = partner;
    for (const encode of [everyCharacter, (text: string) => text.replaceAll("_", "%5F"), (text: string) => text.replaceAll("_", "%5f")]) {
      expect((await byHeader(basicLine(`${encode(clientId)}:${encode(clientSecret)}`))).status).toBe(200);
    }
  });

  test("P1.3 401: a pair that decodes to another one, or does not decode, is a wrong one and never a 500", async () => {
    const { clientId, clientSecret } = partner;
    const odd = ["+", " ", "é", "%C3%A9", "%zz", "%", "%5", "%ff", "%2B", "%253A", "%5%46"];
    for (const character of odd) {
      await refusedBasic(basicLine(`${clientId.replace("_", character)}:${clientSecret}`));
      await refusedBasic(basicLine(`${clientId}:${clientSecret.replace("_", character)}`));
    }
    await refusedBasic(basicLine(`${clientId}:${clientSecret}:`));
    await refusedBasic(basicLine(`${clientId}::${clientSecret}`));
    await refusedBasic(basicLine(`${clientId}%3A:${clientSecret}`));
    await refusedBasic(basicLine(`${clientId}%3A${clientSecret}`));
    await refusedBasic(basicLine(Buffer.from(`${clientId}:${clientSecret}é`, "latin1")));
  });

  test("P1.15 400: two Authorization lines, whichever of them is good", async () => {
    const good = `Authorization: ${basic(partner.clientId, partner.clientSecret)}`;
    const bad = basicLine("nobody:wrong");
    for (const lines of [
      [bad, good],
      [good, bad],
      [good, good],
      [good, good.replace("Authorization", "aUTHORIZATION")],
      [good, "Authorization:"],
    ]) {
      const reply = await postRaw(server, freshForm(partner, "none").toString(), lines);
      await expectRefusal(server, reply, { code: "authorization_repeated" });
    }
  });

  test("P1.16 401: Basic with bad base64, without a colon, with NUL, with 8 KB", async () => {
    const { clientId, clientSecret } = partner;
    const good = Buffer.from(`${clientId}:${clientSecret}`).toString("base64");
    const urlSafe = good.replaceAll("+", "-").replaceAll("/", "_");
    const bad = [
      "",
      "=",
      "!!!!",
      `${good.slice(0, -1)}*`,
      `${good}=`,
      `${good}====`,
      `${good.slice(0, 8)} ${good.slice(8)}`,
      `${urlSafe.slice(0, -2)}_-`,
    ];
    for (const credentials of bad) await refusedBasic(`Authorization: Basic ${credentials}`);
    await refusedBasic("Authorization: Basic");
    for (const pair of [
      clientId,
      `${clientId}${clientSecret}`,
      `${clientId}\0:${clientSecret}`,
      `${clientId}:${clientSecret}\0`,
      `\0:\0`,
    ]) {
      await refusedBasic(basicLine(pair));
    }
    await refusedBasic(basicLine(`${clientId}%00:${clientSecret}%00`));
    await refusedBasic(basicLine(`${clientId}:${"x".repeat(6 * 1024)}`));
    await refusedBasic(basicLine(Buffer.from([0xff, 0xfe, 0x3a, 0xff])));
  });

  test("P1.17 200: the scheme in any letter case", async () => {
    for (const scheme of ["basic", "BASIC", "bAsIc"]) {
      const line = basicLine(`${partner.clientId}:${partner.clientSecret}`, scheme);
      expect((await byHeader(line)).status).toBe(200);
    }
  });

  test("P1.17 401: another scheme, or none: what it held is neither kept nor said", async () => {
    const { clientId, clientSecret } = partner;
    const base64 = Buffer.from(`${clientId}:${clientSecret}`).toString("base64");
    const lines = [
      "Bearer x",
      "Basic2 x",
      "Digest username=x",
      clientSecret,
      base64,
      `Basic\t${base64}`,
      `Basic:${base64}`,
      subjectToken(partner),
    ];
    for (const value of lines) {
      const reply = await byHeader(`Authorization: ${value}`);
      await expectRefusal(server, reply, { ...NOT_AUTHENTICATED, code: "client_authentication_unsupported" });
      expect(reply.headers.get("www-authenticate")).toMatch(/^Basic /);
      const rows = await server.database.query("SELECT * FROM exchanges WHERE trace_id = $1", [reply.json["trace_id"] as string]);
      for (const text of [reply.text, JSON.stringify(rows), ...server.logLines]) expect(text).not.toContain(base64.slice(0, 40));
    }
  });

  test("P1.16 431: Basic with 60 KB stops at the header cap, and so do 16 KB of other headers", async () => {
    const { clientId } = partner;
    for (const line of [basicLine(`${clientId}:${"x".repeat(60 * 1024)}`), `X-Much: ${"x".repeat(17 * 1024)}`]) {
      const received = await sendRaw(server, rawTokenRequest(freshForm(partner).toString(), [line]));
      expect(parseRawReply(received).status).toBe(431);
      expect(received).not.toContain("x".repeat(20));
      await expectControl(server);
    }
  });

  test("P1.16 400: NUL, a bare CR or LF inside the header's own line is no HTTP", async () => {
    for (const byte of ["\0", "\r", "\n", "\r\n "]) {
      const line = `Authorization: Basic ${byte}eA==`;
      const received = await sendRaw(server, rawTokenRequest(freshForm(partner).toString(), [line]));
      expect(parseRawReply(received).status).toBe(400);
      await expectControl(server);
    }
  });
});
