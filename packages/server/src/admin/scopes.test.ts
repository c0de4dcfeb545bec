import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  admin,
  createTestPartner,
  exchange,
  ISSUER,
  type Reply,
  startTestServer,
  subjectToken,
  type TestServer,
} from "../testing/server.ts";

const BUILT_IN = [
  ["thread", "user"],
  ["account-management", "service_account"],
  ["analytics", "service_account"],
];

interface Shown {
  readonly name: string;
  readonly created_at: string;
}
const shown = (reply: Reply) => reply.json["scope"] as Shown;
const pathOf = (name: string) => `/scopes/${encodeURIComponent(name)}`;
const newName = () => `files:${randomUUID()}`;

describe.each(DIALECTS)("the scope API on %s", (dialect) => {
  let server: TestServer;
  let api: { readonly resource_server_id: string; readonly audience: string };
  beforeAll(async () => {
    server = await startTestServer(dialect);
    api = await createApi();
  });
  afterAll(() => server.stop());

  async function createApi(): Promise<typeof api> {
    const reply = await admin(server, "POST", "/resource-servers", { name: "Files", audience: `https://${randomUUID()}.example` });
    return reply.json["resource_server"] as typeof api;
  }
  const create = (fields: object) =>
    admin(server, "POST", "/scopes", { name: newName(), principal: "user", resource_server_id: api.resource_server_id, ...fields });

  test("201: made, listed behind the built-in ones, changed in its description, and removed", async () => {
    const name = newName();
    const made = await create({ name, principal: "service_account" });
    expect(made.status).toBe(201);
    const { resource_server_id, audience } = api;
    const scope = { name, principal: "service_account", resource_server_id, audience, description: "" };
    expect(shown(made)).toEqual({ ...scope, created_at: expect.stringMatching(/Z$/) });
    const listed = (await admin(server, "GET", "/scopes")).json["scopes"] as Record<string, unknown>[];
    expect(listed.slice(0, 3).map((each) => [each["name"], each["principal"]])).toEqual(BUILT_IN);
    for (const builtIn of listed.slice(0, 3))
      expect(builtIn).toMatchObject({ resource_server_id: null, audience: `${ISSUER}/v2`, created_at: null });
    expect(listed).toContainEqual(shown(made));
    const changed = await admin(server, "PATCH", pathOf(name), { description: "Reads files" });
    expect(changed).toMatchObject({ status: 200, json: { scope: { ...shown(made), description: "Reads files" } } });
    expect(await admin(server, "GET", pathOf(name))).toMatchObject({ status: 200, json: { scope: { description: "Reads files" } } });
    expect(await admin(server, "DELETE", pathOf(name))).toMatchObject({ status: 200, json: { success: true } });
    for (const [method, body] of [["GET"], ["PATCH", { description: "" }], ["DELETE"]] as const) {
      expect((await admin(server, method, pathOf(name), body)).status, method).toBe(404);
    }
  });

  test.each([
    "https://files.example/read",
    "files:read",
    "a%2Fb",
    "100%",
    "%",
    "a/b/../c",
    "?x=1&y#z;,+",
    "~!*'()",
    "/".repeat(100),
    "%".repeat(100),
    "__proto__",
  ])("the name %s goes through a path and a token request", async (name) => {
    expect(shown(await create({ name, principal: "service_account" }))).toMatchObject({ name });
    expect(shown(await admin(server, "GET", pathOf(name)))).toMatchObject({ name });
    expect(shown(await admin(server, "PATCH", pathOf(name), { description: "x" }))).toMatchObject({ name, description: "x" });
    const partner = await createTestPartner(server, { allowed_scopes: [name] });
    const granted = await exchange(partner, subjectToken(partner), { form: { scope: name } });
    expect(granted).toMatchObject({ status: 200, json: { scope: name } });
    expect((await admin(server, "DELETE", pathOf(name))).status).toBe(409);
    await admin(server, "PATCH", `/partners/${partner.clientId}`, { allowed_scopes: ["thread"] });
    expect((await admin(server, "DELETE", pathOf(name))).status).toBe(200);
  });

  test.each([
    ["an empty name", { name: "" }, "name"],
    ["a name with a space", { name: "a b" }, "name"],
    ["a name with a quote", { name: 'a"b' }, "name"],
    ["a name with a backslash", { name: "a\\b" }, "name"],
    ["a name with a NUL", { name: "a\0b" }, "name"],
    ["a name beyond ASCII", { name: "ä" }, "name"],
    ["a step in a path", { name: ".." }, "name"],
    ["a name of 101 characters", { name: "x".repeat(101) }, "name"],
    ["no principal", { principal: undefined }, "principal"],
    ["another principal", { principal: "operator" }, "principal"],
    ["no resource server", { resource_server_id: undefined }, "resource_server_id"],
    ["null for our own API", { resource_server_id: null }, "resource_server_id"],
    ["a resource server that there is not", { resource_server_id: `rs_${"0".repeat(32)}` }, "resource_server_id"],
    ["a partner", { resource_server_id: `prt_${"0".repeat(32)}` }, "resource_server_id"],
    ["a description of 501 characters", { description: "x".repeat(501) }, "description"],
    ["an audience of its own", { audience: "https://other.example" }, "audience"],
  ])("422: %s, naming the field", async (_name, fields, field) => {
    expect(await create(fields)).toMatchObject({ status: 422, json: { success: false, errors: [{ field }] } });
  });

  test("409: a name that is taken, and a built-in one; those stay", async () => {
    const name = newName();
    await create({ name });
    expect((await create({ name, principal: "service_account" })).status).toBe(409);
    for (const [builtIn = ""] of BUILT_IN) {
      expect((await create({ name: builtIn })).status).toBe(409);
      expect(await admin(server, "DELETE", pathOf(builtIn))).toMatchObject({
        status: 409,
        json: { detail: expect.stringContaining("built in") },
      });
    }
  });

  test("422: a change of anything but the description", async () => {
    const name = newName();
    await create({ name });
    for (const field of ["name", "principal", "resource_server_id"]) {
      expect((await admin(server, "PATCH", pathOf(name), { description: "x", [field]: "y" })).status).toBe(422);
    }
  });

  test.each(["nothing", "%00", "%22", "a%20b", ".%2e"])("404: the name %s", async (name) => {
    expect((await admin(server, "GET", `/scopes/${name}`)).status).toBe(404);
    expect((await admin(server, "DELETE", `/scopes/${name}`)).status).toBe(404);
  });

  describe("the scopes that a partner is allowed", () => {
    test("are the built-in ones by default, and any that exist", async () => {
      const partner = await createTestPartner(server);
      const path = `/partners/${partner.clientId}`;
      const allowed = (reply: Reply) => (reply.json["partner"] as { allowed_scopes: string[] }).allowed_scopes;
      expect(allowed(await admin(server, "GET", path))).toEqual(BUILT_IN.map(([name]) => name));
      const name = newName();
      await create({ name });
      expect(allowed(await admin(server, "PATCH", path, { allowed_scopes: [name, "thread", name] }))).toEqual([name, "thread"]);
      expect(await admin(server, "DELETE", pathOf(name))).toMatchObject({
        status: 409,
        json: { detail: expect.stringContaining("allowed to a partner") },
      });
    });

    test("422: each that does not exist is named, with its place, and nothing is changed", async () => {
      const partner = await createTestPartner(server);
      const [known, gone] = [newName(), newName()];
      for (const name of [known, gone]) await create({ name });
      await admin(server, "DELETE", pathOf(gone));
      const body = { name: "Other", allowed_scopes: ["thread", known, gone, "files:none"] };
      const errors = [
        { field: "allowed_scopes.2", message: `there is no scope ${gone}` },
        { field: "allowed_scopes.3", message: "there is no scope files:none" },
      ];
      const changed = await admin(server, "PATCH", `/partners/${partner.clientId}`, body);
      expect(changed).toMatchObject({ status: 422, json: { detail: `allowed_scopes.2: there is no scope ${gone}`, errors } });
      const made = await admin(server, "POST", "/partners", { ...body, jwks: { keys: [partner.key.publicJwk] } });
      expect(made).toMatchObject({ status: 422, json: { errors } });
      expect((await admin(server, "GET", `/partners/${partner.clientId}`)).json["partner"]).toMatchObject({ name: "Test partner" });
      const many = Array.from({ length: 101 }, () => "thread");
      expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, { allowed_scopes: many })).status).toBe(422);
    });
  });
});
