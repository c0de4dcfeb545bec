import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { admin, createTestPartner, startTestServer, type TestPartner, type TestServer } from "../testing/server.ts";

describe.each(DIALECTS)("allowed_origins on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
  });
  afterAll(() => server.stop());

  const patch = (origins: unknown) => admin(server, "PATCH", `/partners/${partner.clientId}`, { allowed_origins: origins });
  const shown = async () =>
    ((await admin(server, "GET", `/partners/${partner.clientId}`)).json["partner"] as Record<string, unknown>)["allowed_origins"];

  test("200: none at first; a list replaces the list, each origin once", async () => {
    expect(await shown()).toEqual([]);
    const list = ["https://app.example.com", "http://localhost:3000", "https://app.example.com"];
    expect(await patch(list)).toMatchObject({ status: 200, json: { partner: { allowed_origins: list.slice(0, 2) } } });
    expect(await shown()).toEqual(list.slice(0, 2));
    expect(await patch(["https://other.example:8443"])).toMatchObject({ status: 200 });
    expect(await shown()).toEqual(["https://other.example:8443"]);
    expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, { name: "Renamed" })).status).toBe(200);
    expect(await shown()).toEqual(["https://other.example:8443"]);
    expect(await patch([])).toMatchObject({ status: 200, json: { partner: { allowed_origins: [] } } });
  });

  test("201: two partners may list the same", async () => {
    for (const name of ["One", "Two"]) {
      const body = { name, jwks: { keys: [partner.key.publicJwk] }, allowed_origins: ["https://both.example"] };
      expect(await admin(server, "POST", "/partners", body)).toMatchObject({
        status: 201,
        json: { partner: { allowed_origins: ["https://both.example"] } },
      });
    }
  });

  test.each([
    ["https://App.Example.com/", "write https://app.example.com"],
    ["https://app.example.com:443", "write https://app.example.com"],
    ["https://app.example.com/path?x#y", "write https://app.example.com"],
    ["https://müller.example", "write https://xn--mller-kva.example"],
    ["http://127.1:80", "write http://127.0.0.1"],
    ["https://*.example.com", "write https://app.example.com or"],
    ["http://app.example.com", "http is for localhost, 127.0.0.1 and [::1] only"],
    ["null", "write https://app.example.com or"],
    ["*", "write https://app.example.com or"],
    ["app.example.com", "write https://app.example.com or"],
    ["javascript:alert(1)", "write https://app.example.com or"],
    ["", "is empty"],
    [`https://${"a".repeat(293)}`, "is over 300 characters"],
  ])("422: %s, with what to write", async (origin, sentence) => {
    const reply = await patch(["https://good.example", origin]);
    expect(reply.status).toBe(422);
    const errors = reply.json["errors"] as { field: string; message: string }[];
    expect(errors[0]).toMatchObject({ field: "allowed_origins.1", message: expect.stringContaining(sentence) });
    expect(await shown()).toEqual([]);
  });

  test("422: over 50, and what is no list", async () => {
    const many = (count: number) => Array.from({ length: count }, (_, n) => `https://a${n}.example`);
    for (const bad of [many(51), null, "https://a.example", {}, [1], [null]]) expect((await patch(bad)).status).toBe(422);
    expect((await patch(many(50))).status).toBe(200);
    expect((await patch([])).status).toBe(200);
  });
});
