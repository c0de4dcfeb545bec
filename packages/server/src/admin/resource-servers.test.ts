import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { admin, basic, ISSUER, type Reply, send, startTestServer, type TestServer } from "../testing/server.ts";

const SECRET = /^cambist_secret_[A-Za-z0-9_-]{43}$/;
const ABSENT = `rs_${"0".repeat(32)}`;
const newAudience = () => `https://${randomUUID()}.example`;

interface Shown {
  readonly resource_server_id: string;
  readonly name: string;
  readonly audience: string;
  readonly secrets: { readonly secret_id: string; readonly created_at: string; readonly last_used_at: string | null }[];
}
const shown = (reply: Reply) => reply.json["resource_server"] as Shown;

describe.each(DIALECTS)("the resource server API on %s", (dialect) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer(dialect);
  });
  afterAll(() => server.stop());

  const create = (body: unknown) => admin(server, "POST", "/resource-servers", body);
  async function made(fields: object = {}): Promise<Shown & { readonly secret: string; readonly path: string }> {
    const reply = await create({ name: "Files", audience: newAudience(), ...fields });
    expect(reply.status, reply.text).toBe(201);
    const { resource_server_id: id } = shown(reply);
    return { ...shown(reply), secret: String(reply.json["client_secret"]), path: `/resource-servers/${id}` };
  }
  /** How the API is answered when it asks about a token that does not exist. */
  async function introspectionStatus(id: string, secret: string): Promise<number> {
    const headers = { authorization: basic(id, secret), "content-type": "application/x-www-form-urlencoded" };
    return (await send(server, "POST", "/oauth2/introspect", { headers, body: "token=x" })).status;
  }

  test("201: made, its secret shown once; it is in no row and no log line, and it authenticates at once", async () => {
    const audience = newAudience();
    const reply = await create({ name: "Files", audience });
    expect(reply).toMatchObject({ status: 201, json: { client_secret: expect.stringMatching(SECRET) } });
    const now = expect.stringMatching(/^\d{4}-.*Z$/);
    const secrets = [{ secret_id: expect.stringMatching(/^sec_[0-9a-f]{16}$/), created_at: now, last_used_at: null }];
    const id = expect.stringMatching(/^rs_[0-9a-f]{32}$/);
    expect(shown(reply)).toEqual({ resource_server_id: id, name: "Files", audience, secrets, created_at: now, updated_at: now });
    const { resource_server_id: ownId } = shown(reply);
    const secret = String(reply.json["client_secret"]);
    expect(await introspectionStatus(ownId, secret)).toBe(200);
    const readAgain = () => admin(server, "GET", `/resource-servers/${ownId}`);
    // behind the request's back
    await expect.poll(async () => shown(await readAgain()).secrets[0]?.last_used_at, { timeout: 5_000 }).toEqual(now);
    const got = await readAgain();
    expect(shown(got)).toEqual({ ...shown(reply), secrets: [{ ...shown(reply).secrets[0], last_used_at: now }] });
    expect(got.text + server.logLines.join("")).not.toContain(secret.slice(15));
    const { secrets: _secrets, ...listed } = shown(got);
    expect((await admin(server, "GET", "/resource-servers")).json["resource_servers"]).toContainEqual(listed);
    const rows = await server.database.query("SELECT secret_hash FROM resource_server_secrets WHERE resource_server_id = $1", [ownId]);
    expect(rows).toHaveLength(1);
    expect(Buffer.from(rows[0]?.["secret_hash"] as Uint8Array).toString("latin1")).not.toContain(secret.slice(15));
  });

  test.each([
    ["no name", { name: undefined }, "name"],
    ["an empty name", { name: "" }, "name"],
    ["a name with a line break", { name: "a\nb" }, "name"],
    ["a name of 256 characters", { name: "x".repeat(256) }, "name"],
    ["no audience", { audience: undefined }, "audience"],
    ["an audience that is a word", { audience: "files" }, "audience"],
    ["a relative one", { audience: "/files" }, "audience"],
    ["one with a fragment", { audience: "https://files.example#a" }, "audience"],
    ["one with a space", { audience: "https://files.example/a b" }, "audience"],
    ["one with a NUL", { audience: "https://files.example/\0" }, "audience"],
    ["one beyond ASCII", { audience: "https://bücher.example" }, "audience"],
    ["one without a host", { audience: "https://" }, "audience"],
    ["one of 256 characters", { audience: `https://files.example/${"x".repeat(234)}` }, "audience"],
    ["one that is a number", { audience: 1 }, "audience"],
    ["a field that there is not", { client_secret: "mine" }, "client_secret"],
  ])("422: %s, naming the field", async (_name, fields, field) => {
    const reply = await create({ name: "Files", audience: newAudience(), ...fields });
    expect(reply).toMatchObject({ status: 422, json: { success: false, errors: [{ field }] } });
  });

  test.each(["urn:example:files", "https://files.example:8443/a?b=c", `https://files.example/${"x".repeat(233)}`])(
    "201: the audience %s",
    async (audience) => {
      expect((await made({ audience })).audience).toBe(audience);
    },
  );

  test("409: an audience of another one, and every spelling of our own API and issuer", async () => {
    const { audience, path } = await made();
    expect(await create({ name: "Other", audience })).toMatchObject({
      status: 409,
      json: { detail: expect.stringContaining("another resource server") },
    });
    const other = await made();
    expect((await admin(server, "PATCH", other.path, { audience })).status).toBe(409);
    expect((await admin(server, "PATCH", path, { audience })).status).toBe(200);
    for (const own of [
      ISSUER,
      `${ISSUER}/`,
      `${ISSUER}/v2`,
      "https://CAMBIST.test/v2",
      "https://cambist.test:443/v2",
      `${ISSUER}/x/../v2`,
    ]) {
      expect(await create({ name: "Us", audience: own }), own).toMatchObject({
        status: 409,
        json: { detail: expect.stringContaining("this server itself") },
      });
      expect((await admin(server, "PATCH", other.path, { audience: own })).status, own).toBe(409);
    }
    expect(shown(await admin(server, "GET", other.path))).toMatchObject({ audience: other.audience });
  });

  test("200: a change of what is given, and of nothing else", async () => {
    const { path, audience } = await made();
    server.clock.offsetMs += 1_000;
    const renamed = await admin(server, "PATCH", path, { name: "Archive" });
    expect(renamed).toMatchObject({ status: 200, json: { resource_server: { name: "Archive", audience, secrets: [{}] } } });
    const moved = newAudience();
    expect(shown(await admin(server, "PATCH", path, { audience: moved }))).toMatchObject({ name: "Archive", audience: moved });
    expect(shown(await admin(server, "PATCH", path, {}))).toMatchObject({ name: "Archive", audience: moved });
    expect((await admin(server, "PATCH", path, { resource_server_id: ABSENT })).status).toBe(422);
  });

  test("409, 200: it stays while a scope opens it; removed, its secret opens nothing", async () => {
    const { path, resource_server_id: id, secret } = await made();
    await admin(server, "POST", "/scopes", { name: `files:${id}`, principal: "user", resource_server_id: id });
    expect(await admin(server, "DELETE", path)).toMatchObject({ status: 409, json: { detail: expect.stringContaining("scope") } });
    expect(await introspectionStatus(id, secret)).toBe(200);
    await admin(server, "DELETE", `/scopes/files:${id}`);
    expect(await admin(server, "DELETE", path)).toMatchObject({ status: 200, json: { success: true } });
    expect(await introspectionStatus(id, secret)).toBe(401);
    for (const [method, body] of [["GET"], ["PATCH", { name: "x" }], ["DELETE"]] as const)
      expect((await admin(server, method, path, body)).status).toBe(404);
    expect((await admin(server, "POST", `${path}/secrets`)).status).toBe(404);
  });

  test.each([ABSENT, "x", "%00", `prt_${"0".repeat(32)}`, "rs_%27%20OR%201=1--"])("404: the id %s", async (id) => {
    for (const [method, path, body] of [
      ["GET", `/resource-servers/${id}`],
      ["PATCH", `/resource-servers/${id}`, { name: "x" }],
      ["DELETE", `/resource-servers/${id}`],
      ["POST", `/resource-servers/${id}/secrets`],
      ["DELETE", `/resource-servers/${id}/secrets/sec_${"0".repeat(16)}`],
    ] as const) {
      expect((await admin(server, method, path, body)).status, `${method} ${path}`).toBe(404);
    }
  });

  describe("its secrets", () => {
    test("201, 409: two work at once, a third is refused; one in use is removed by force only, and stops at once; the last one stays", async () => {
      const { path, resource_server_id: id, secret: first, secrets } = await made();
      const added = await admin(server, "POST", `${path}/secrets`);
      expect(added).toMatchObject({ status: 201, json: { client_secret: expect.stringMatching(SECRET) } });
      const { secret_id: secondId, client_secret: second } = added.json as { secret_id: string; client_secret: string };
      for (const secret of [first, second]) expect(await introspectionStatus(id, secret)).toBe(200);
      expect((await admin(server, "POST", `${path}/secrets`)).status).toBe(409);
      const remove = (secretId: string, query = "") => admin(server, "DELETE", `${path}/secrets/${secretId}${query}`);
      const [firstId = ""] = secrets.map(({ secret_id: secretId }) => secretId);
      expect(await remove(firstId)).toMatchObject({ status: 409, json: { detail: expect.stringContaining("force=true") } });
      expect((await remove(firstId, "?force=yes")).status).toBe(422);
      expect((await remove(firstId, "?force=true")).status).toBe(200);
      expect([await introspectionStatus(id, first), await introspectionStatus(id, second)]).toEqual([401, 200]);
      expect((await remove(firstId, "?force=true")).status).toBe(404);
      expect(await remove(secondId, "?force=true")).toMatchObject({
        status: 409,
        json: { detail: expect.stringContaining("only secret") },
      });
      expect(await introspectionStatus(id, second)).toBe(200);
    });

    test("200: one that was last used over 24 hours ago goes without force; another one's cannot be removed", async () => {
      const { path, resource_server_id: id, secret, secrets } = await made();
      const foreign = await made();
      await introspectionStatus(id, secret);
      await admin(server, "POST", `${path}/secrets`);
      const remove = (owner: string) => admin(server, "DELETE", `${owner}/secrets/${secrets[0]?.secret_id}`);
      expect((await remove(foreign.path)).status).toBe(404);
      expect((await remove(path)).status).toBe(409);
      server.clock.offsetMs += 24 * 3_600_000;
      expect((await remove(path)).status).toBe(200);
    });
  });
});
