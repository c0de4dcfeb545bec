import { randomUUID } from "node:crypto";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  serviceAccountToken,
  subjectToken,
  type TestPartner,
} from "../../packages/server/src/testing/server.ts";
import type { Stage } from "./stage.ts";

/** A partner whose limit is used up, and its tokens by the name of the security scheme. */
export interface Limited {
  readonly partner: TestPartner;
  readonly tokens: Readonly<Record<string, string>>;
}

const known = new WeakMap<Stage, Promise<Limited>>();

export async function usedUp(stage: Stage): Promise<Limited> {
  const making = known.get(stage) ?? make(stage);
  known.set(stage, making);
  const limited = await making;
  for (let n = 0; n < 2; n++) {
    await call(stage.server, "GET", `/v2/account-management/user?user_id=${randomUUID()}`, limited.tokens["serviceAccount"] ?? "");
  }
  return limited;
}

async function make({ server }: Stage): Promise<Limited> {
  const partner = await createTestPartner(server, { allowed_grants: ["token-exchange", "client_credentials"] });
  const user = await exchange(partner, subjectToken(partner, { sub: (await createTestUser(partner)).userId }));
  const tokens = { serviceAccount: await serviceAccountToken(partner), user: String(user.json["access_token"]) };
  await admin(server, "PATCH", `/partners/${partner.clientId}`, { rate_limits: { requests_per_minute: 1 } });
  return { partner, tokens };
}
