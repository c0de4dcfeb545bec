import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import {
  admin,
  createTestPartner,
  send,
  serviceAccountToken,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../testing/server.ts";

/** What the cases of the attack list (tests/attacks/a9-idempotency…) do not have. */
describe.each(DIALECTS)("Idempotency-Key on %s", (dialect) => {
  let server: TestServer;
  let partner: TestPartner;
  let token: string;
  beforeAll(async () => {
    server = await startTestServer(dialect);
    partner = await createTestPartner(server);
    token = await serviceAccountToken(partner);
  });
  afterAll(() => server.stop());

  const write = (method: string, path: string, key: string, body: object, headers: Record<string, string> = {}) =>
    send(server, method, `/v2/account-management/${path}`, {
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", "idempotency-key": key, ...headers },
      body: JSON.stringify(body),
    });

  test("422: the whole query is what the key came with, also behind a second question mark", async () => {
    for (const id of ["x?1", "x?2"])
      expect((await write("PUT", "organization", id.replace("?", "-"), { external_org_id: id })).status).toBe(201);
    expect((await write("PATCH", "organization?external_org_id=x?1", "k1", { name: "n" })).status).toBe(200);
    expect((await write("PATCH", "organization?external_org_id=x?2", "k1", { name: "n" })).status).toBe(422);
  });

  test("201: another spelling of the path is the same operation, and makes no second entity", async () => {
    const first = await write("PUT", "organization", "k2", { name: "once" });
    const second = await write("PUT", "%6frganization", "k2", { name: "once" });
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.json).toEqual(first.json);
  });

  test("422: the condition is part of the request", async () => {
    const { headers } = await write("PUT", "organization", "k3", { external_org_id: "conditional" });
    const patch = (etag: string) => write("PATCH", "organization?external_org_id=conditional", "k4", { name: "n" }, { "if-match": etag });
    expect((await patch('"stale"')).status).toBe(412);
    expect((await patch('"stale"')).status).toBe(412);
    expect((await patch(headers.get("etag") ?? "")).status).toBe(422);
  });

  test("201: the answer is kept, though the operator has narrowed the billing features since", async () => {
    const body = { entitlements: [{ billing_feature_id: "wide" }] };
    expect((await write("PUT", "organization", "k5", body)).status).toBe(201);
    expect((await admin(server, "PATCH", `/partners/${partner.clientId}`, { billing_features: ["narrow"] })).status).toBe(200);
    expect((await write("PUT", "organization", "k5", body)).status).toBe(201);
    expect((await write("PUT", "organization", "k6", body)).status).toBe(422);
  });
});
