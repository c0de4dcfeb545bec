import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { createTalker, createThread, isEnd, LedAgent, type OpenStream, openStream, sendMessage, talkerToken, type TestTalker } from "../../packages/server/src/testing/event-stream.ts";
import { decodeJwt, makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { admin, call, createTestPartner, send, serviceAccountToken, startTestServer, type TestPartner, type TestServer } from "../../packages/server/src/testing/server.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { HOME } from "./a10-setting.ts";

/*
 * A10, streams whose token is over: P10.2, and what contract §4 says of open streams. That a single user's stream ends by the clock and by its
 * disabling: packages/server/src/threads/stream.test.ts.
 */

/** Contract §4, for what another node has withdrawn. */
const ELSEWHERE_MS_MAX = 5_000;
/** By the clock it is up to 30 s (P10.2); a beat of the streams and a busy machine. */
const BEATS_MS = 2_000;
const KEY = makeTestKey("ES256");

interface Subject {
  readonly partner: TestPartner;
  readonly talker: TestTalker;
  readonly threadId: string;
  readonly serviceAccount: string;
}

/** What takes a stream its ground away: who does it, how, and what the stream says of it. */
type Withdrawal = (subject: Subject, server: TestServer) => Promise<{ readonly status: number }>;

const account = (method: string, kind: string, id: (talker: TestTalker) => string, body?: object): Withdrawal => {
  return ({ talker, serviceAccount }, server) =>
    call(server, method, `/v2/account-management/${kind}?${id(talker)}`, serviceAccount, body);
};
const revoking = (target: (subject: Subject) => object): Withdrawal => {
  return (subject, server) => admin(server, "POST", "/revocations", target(subject));
};
const partnerChange = (fields: object): Withdrawal => {
  return ({ partner }, server) => admin(server, "PATCH", `/partners/${partner.clientId}`, fields);
};
const ofUser = ({ userId }: TestTalker) => `user_id=${userId}`;
const ofWorkspace = ({ workspaceId }: TestTalker) => `workspace_id=${workspaceId}`;
const ofOrganization = ({ orgId }: TestTalker) => `org_id=${orgId}`;

const WITHDRAWALS: Readonly<Record<string, Withdrawal>> = {
  "the token is revoked by the operator": revoking(({ talker }) => ({ jti: decodeJwt(talker.token).payload["jti"] })),
  "the token is revoked by its partner": ({ partner, talker }, server) =>
    send(server, "POST", "/oauth2/revoke", {
      body: new URLSearchParams({ client_id: partner.clientId, client_secret: partner.clientSecret, token: talker.token }),
    }),
  "all tokens of the user are revoked": revoking(({ talker }) => ({ user_id: talker.userId })),
  "all tokens of the workspace are revoked": revoking(({ talker }) => ({ workspace_id: talker.workspaceId })),
  "all tokens of the organization are revoked": revoking(({ talker }) => ({ org_id: talker.orgId })),
  "all tokens of the partner are revoked": revoking(({ partner }) => ({ client_id: partner.clientId })),
  "all that a key of the partner brought about is revoked": revoking(({ partner }) => ({ client_id: partner.clientId, kid: partner.key.kid })),
  "the user is disabled": account("PATCH", "user", ofUser, { status: "disabled" }),
  "the workspace is disabled": account("PATCH", "workspace", ofWorkspace, { status: "disabled" }),
  "the organization is disabled": account("PATCH", "organization", ofOrganization, { status: "disabled" }),
  "the partner is disabled": partnerChange({ status: "disabled" }),
  "the user's sub is changed": account("PATCH", "user", ofUser, { external_user_id: "somebody else" }),
  "the scope is taken from the partner": partnerChange({ allowed_scopes: ["account-management"] }),
  "the user is erased": account("DELETE", "user", ofUser),
  "the organization is erased with all that is in it": account("DELETE", "organization", (talker) => `${ofOrganization(talker)}&cascade=true`),
};

describe.each(DIALECTS)("streams whose ground is taken away on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  const agent = new LedAgent();
  beforeAll(async () => {
    server = await startTestServer(dialect, { agent });
    second = await server.startSecondNode();
  });
  afterAll(async () => {
    await second.stop();
    await server.stop();
  });

  async function createSubject(): Promise<Subject> {
    const fields = { subject_namespace: "external_user_id" };
    const partner = await createTestPartner(server, fields, KEY);
    const user = await createTalker({ ...partner }, { external_user_id: "ada" }).catch(() => undefined);
    if (user === undefined) throw new Error("no user");
    return { partner, talker: user, threadId: await createThread(server, user.token), serviceAccount: await serviceAccountToken(partner) };
  }
});
