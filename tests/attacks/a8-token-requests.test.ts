import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  createTestPartner,
  type Reply,
  send,
  sendRaw,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { openPostgresLine } from "../postgres-line.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { parseRawReply } from "./raw.ts";
import {
  assertionOf,
  basicOf,
  createKeyPartner,
  credentialsOf,
  ENDPOINTS,
  expectActive,
  expectInactive,
  GRANTS,
  INACTIVE,
  isTaken,
  opaqueTokenOf,
  post,
  revoke,
  serviceTokensOf,
} from "./token-status.ts";

/* A8, requests for introspection and revocation that are malformed, or that come while the store is away. */

describe.each(DIALECTS)("requests about tokens on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server, GRANTS);
    token = await opaqueTokenOf(partner);
  });
  afterAll(() => server.stop());

  function expectRefused(reply: Reply, code: string, status = 400): void {
    expect(reply, reply.text).toMatchObject({ status, json: { error: "invalid_request" } });
    expect(reply.json["error_uri"]).toMatch(new RegExp(`/docs/errors/${code}$`));
    expect(reply.headers.get("cache-control")).toBe("no-store");
    expectNothingSecretLogged(server);
  }

  describe.each(ENDPOINTS)("%s", (path) => {
    const valid = () => ({ ...credentialsOf(partner), token: "unknown" });
    const raw = async (body: string, type = "application/x-www-form-urlencoded", more: readonly string[] = []) => {
      const lines = [
        `POST ${path} HTTP/1.1`,
        "Host: x",
        "Connection: close",
        `Content-Type: ${type}`,
        ...more,
        `Content-Length: ${body.length}`,
      ];
      return parseRawReply(await sendRaw(server, Buffer.from([...lines, "", body].join("\r\n"), "latin1")));
    };

    test("CONTROL 200: as a form, by Basic and in the body", async () => {
      expect((await post(server, path, valid())).status).toBe(200);
      expect((await post(server, path, { token: "unknown" }, basicOf(partner))).status).toBe(200);
    });

    test("405 and Allow: any method but POST", async () => {
      for (const method of ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
        const reply = await send(server, method, path, { headers: basicOf(partner) });
        expect(reply.status, method).toBe(405);
        expect(reply.headers.get("allow")).toBe("POST");
        expect(reply.headers.get("cache-control")).toBe("no-store");
      }
    });

    test("400: parameters in the query, whatever they are, and none of them is read", async () => {
      const query = new URLSearchParams({ ...credentialsOf(partner), token }).toString();
      for (const search of [query, `token=${token}`, "x"]) {
        expectRefused(await send(server, "POST", `${path}?${search}`, { body: new URLSearchParams(valid()) }), "parameters_in_query");
      }
      expect(await isTaken(server, token)).toBe(true);
    });

    test("400: no token, an empty one, or two", async () => {
      expectRefused(await post(server, path, credentialsOf(partner)), "parameter_missing");
      expectRefused(await post(server, path, { ...credentialsOf(partner), token: "" }), "parameter_missing");
      const twice = `${new URLSearchParams(valid()).toString()}&token=unknown`;
      expectRefused(await raw(twice), "parameter_repeated");
    });

    test("400: JSON, multipart, text, no type or an odd one", async () => {
      const json = JSON.stringify(valid());
      for (const type of [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "application/x-www-form-urlencoded\t;a=b",
        "",
      ]) {
        expectRefused(await raw(json, type), "media_type_unsupported");
      }
      const part = 'Content-Disposition: form-data; name="token"\r\n\r\nunknown\r\n';
      expectRefused(await raw(`--x\r\n${part}--x--\r\n`, "multipart/form-data; boundary=x"), "media_type_unsupported");
    });

    test("413: a body of 1 MB, before it is read, and one of 100 KB", async () => {
      for (const bytes of [1 << 20, 100 * 1024]) {
        const reply = await post(server, path, { ...credentialsOf(partner), token: "x".repeat(bytes) });
        expectRefused(reply, "body_too_large", 413);
      }
    });

    test("400 or 401, never 500: bytes, escapes and names that are none, and too many of them", async () => {
      const form = new URLSearchParams(valid()).toString();
      const many = Array.from({ length: 65 }, (_, n) => `p${n}=1`).join("&");
      for (const body of [`${form}%zz`, `${form}%ff`, `${form}\xff`, `${form}&%00%zz=1`, `${form}&${many}`, "\0\x01\x02", "=&=&=", ""]) {
        const reply = await raw(body);
        expect([400, 401], JSON.stringify(body)).toContain(reply.status);
        expect(reply.json).toHaveProperty("error_uri");
      }
      const line = basicOf(partner)["authorization"] ?? "";
      const twoHeaders = await raw("token=x", undefined, [`Authorization: ${line}`, `Authorization: ${line}`]);
      expectRefused(twoHeaders, "authorization_repeated");
      expectRefused(await post(server, path, valid(), basicOf(partner)), "client_authentication_multiple");
      const withProof = await post(server, path, valid(), { dpop: "x" });
      expect(withProof).toMatchObject({ status: 400, json: { error: "invalid_dpop_proof" } });
    });

    test("200 without effect: a token of 60 KB, with a NUL, in other letters, cut, longer, padded or escaped twice", async () => {
      const [jwt, opaque] = await serviceTokensOf(partner);
      const changed = [
        "x".repeat(60 * 1024),
        `${"x".repeat(300)}.${"y".repeat(15_000)}.z`,
        ...[jwt, opaque].flatMap((whole) => [
          whole.toUpperCase(),
          whole.slice(0, -1),
          `${whole}0`,
          `${whole}=`,
          `${whole}\0`,
          `\0${whole}`,
          ` ${whole}`,
          `${whole}\n`,
          `Bearer ${whole}`,
          encodeURIComponent(` ${whole}`),
          `${whole},${whole}`,
        ]),
        opaque.replace("sk-", "SK-"),
        opaque.slice(3),
        "sk-",
        "null",
        "undefined",
        "__proto__",
        "\u{1f511}",
        "' OR '1'='1",
      ];
      for (const each of changed) {
        const reply = await post(server, path, { ...credentialsOf(partner), token: each });
        expect([reply.status, reply.text], JSON.stringify(each.slice(0, 60))).toEqual([
          200,
          path === "/oauth2/introspect" ? INACTIVE : "{}",
        ]);
      }
      for (const whole of [jwt, opaque]) await expectActive(server, partner, whole);
    });
  });
});

describe("while PostgreSQL is away", () => {
  test("503 and Retry-After, nothing revoked and no assertion spent; it recovers", async () => {
    const line = await openPostgresLine(new URL(inject("postgresUrl")));
    const server = await startTestServer("postgres", {}, (url) => line.route(url));
    try {
      const partner = await createTestPartner(server, GRANTS);
      const byKey = await createKeyPartner(server);
      const [jwt, opaque] = await serviceTokensOf(partner);
      const assertion = assertionOf(byKey);
      line.cut();
      for (const path of ENDPOINTS) {
        for (const form of [
          { ...credentialsOf(partner), token: jwt },
          { ...credentialsOf(partner), token: opaque },
          { ...assertion, token: jwt },
        ]) {
          const reply = await post(server, path, form);
          expect(reply, reply.text).toMatchObject({ status: 503, json: { error: "temporarily_unavailable" } });
          expect(reply.headers.get("retry-after")).toBe("1");
          expect(reply.headers.get("cache-control")).toBe("no-store");
        }
      }
      line.restore();
      for (const token of [jwt, opaque]) {
        await expectActive(server, partner, token);
        expect((await revoke(server, partner, token)).status).toBe(200);
        await expectInactive(server, partner, token);
      }
      expect((await post(server, "/oauth2/introspect", { ...assertion, token: jwt })).status).toBe(200);
      expectNothingSecretLogged(server);
    } finally {
      await server.stop();
      line.close();
    }
  });
});
