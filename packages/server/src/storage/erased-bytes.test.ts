import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createTestPartner, send, serviceAccountToken, startTestServer } from "../testing/server.ts";

test("of what was changed or erased, no byte is left in the file of the embedded store", async () => {
  const server = await startTestServer("sqlite");
  const token = await serviceAccountToken(await createTestPartner(server));
  let requests = 0;
  const api = (method: string, path: string, body?: object) =>
    send(server, method, `/v2/account-management/${path}`, {
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", "idempotency-key": `k${++requests}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const mark = () => `mark${randomBytes(8).toString("hex")}`;
  const erased = [];
  const kept = mark();
  await api("PUT", "organization", { external_org_id: "kept", name: kept });
  for (let n = 0; n < 60; n++) {
    const marks = [mark(), mark(), mark(), mark()];
    const home = await api("PUT", "organization-and-workspace", { org_name: marks[0], workspace_name: marks[1] });
    const { workspace_id: workspaceId, org_id: orgId } = home.json["workspace"] as Record<string, string>;
    const user = { workspace_id: workspaceId, external_user_id: `u${n}`, name: marks[2] };
    expect((await api("PUT", "user", user)).status).toBe(201);
    expect((await api("PATCH", `user?external_user_id=u${n}`, { name: marks[3] })).status).toBe(200);
    erased.push({ marks, orgId });
  }
  for (const { orgId } of erased) expect((await api("DELETE", `organization?org_id=${orgId}&cascade=true`)).status).toBe(200);
  const path = "sqlitePath" in server.database.location ? server.database.location.sqlitePath : "";
  await server.app.stop();
  const bytes = readFileSync(path, "latin1");
  await server.database.drop();
  expect(bytes).toContain(kept);
  expect(erased.flatMap(({ marks }) => marks).filter((each) => bytes.includes(each))).toEqual([]);
});
