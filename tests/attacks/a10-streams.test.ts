import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import {
  createThread,
  isComplete,
  isEnd,
  LedAgent,
  openStream,
  type ReceivedEvent,
  sendMessage,
} from "../../packages/server/src/testing/event-stream.ts";
import { decodeJwt, makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  call,
  createTestPartner,
  createTestUser,
  exchange,
  send,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
  type TestUser,
} from "../../packages/server/src/testing/server.ts";
import { expectNothingSecretLogged } from "./expect-refusal.ts";
import { HOME } from "./a10-setting.ts";

/*
 * A10, streams whose token is over: P10.2, and what contract §4 says of open streams. That a single user's stream ends by the clock and by its
 * disabling: packages/server/src/threads/stream.test.ts.
 */

/** Contract §4, for what another node has withdrawn. */
const ELSEWHERE_MS_MAX = 5_000;
/** A few milliseconds, on a busy machine; by the clock the next quarter of a second. */
const AT_ONCE_MS_MAX = 2_000;
const KEY = makeTestKey("ES256");

interface Subject {
  readonly partner: TestPartner;
  readonly user: TestUser;
  readonly token: string;
  readonly threadId: string;
  readonly serviceAccount: string;
}

/** What takes a stream its ground away: who does it, how, and what the stream says of it. */
type Withdrawal = (subject: Subject, server: TestServer) => Promise<{ readonly status: number }>;

const account = (method: string, kind: string, id: (user: TestUser) => string, body?: object): Withdrawal => {
  return ({ user, serviceAccount }, server) => call(server, method, `/v2/account-management/${kind}?${id(user)}`, serviceAccount, body);
};
const revoking = (target: (subject: Subject) => object): Withdrawal => {
  return (subject, server) => admin(server, "POST", "/revocations", target(subject));
};
const partnerChange = (fields: object): Withdrawal => {
  return ({ partner }, server) => admin(server, "PATCH", `/partners/${partner.clientId}`, fields);
};
const ofUser = ({ userId }: TestUser) => `user_id=${userId}`;
const ofWorkspace = ({ workspaceId }: TestUser) => `workspace_id=${workspaceId}`;
const ofOrganization = ({ orgId }: TestUser) => `org_id=${orgId}`;

const WITHDRAWALS: Readonly<Record<string, Withdrawal>> = {
  "the token is revoked by the operator": revoking(({ token }) => ({ jti: decodeJwt(token).payload["jti"] })),
  "the token is revoked by its partner": ({ partner, token }, server) =>
    send(server, "POST", "/oauth2/revoke", {
      body: new URLSearchParams({ client_id: partner.clientId, client_secret: partner.clientSecret, token }),
    }),
  "all tokens of the user are revoked": revoking(({ user }) => ({ user_id: user.userId })),
  "all tokens of the workspace are revoked": revoking(({ user }) => ({ workspace_id: user.workspaceId })),
  "all tokens of the organization are revoked": revoking(({ user }) => ({ org_id: user.orgId })),
  "all tokens of the partner are revoked": revoking(({ partner }) => ({ client_id: partner.clientId })),
  "all that a key of the partner brought about is revoked": revoking(({ partner }) => ({
    client_id: partner.clientId,
    kid: partner.key.kid,
  })),
  "the user is disabled": account("PATCH", "user", ofUser, { status: "disabled" }),
  "the workspace is disabled": account("PATCH", "workspace", ofWorkspace, { status: "disabled" }),
  "the organization is disabled": account("PATCH", "organization", ofOrganization, { status: "disabled" }),
  "the partner is disabled": partnerChange({ status: "disabled" }),
  "the user's sub is changed": account("PATCH", "user", ofUser, { external_user_id: "somebody else" }),
  "the scope is taken from the partner": partnerChange({ allowed_scopes: ["account-management"] }),
  "the user is erased": account("DELETE", "user", ofUser),
  "the organization is erased with all that is in it": account("DELETE", "organization", (user) => `${ofOrganization(user)}&cascade=true`),
};

/** Where the thread goes with the user, that may be what is found first. */
const reasonsOf = (what: string) => (what.includes("erased") ? ["token_ended", "thread_deleted"] : ["token_ended"]);

describe.each(DIALECTS)("streams whose ground is taken away on %s", (dialect) => {
  let server: TestServer;
  let second: TestServer;
  const agent = new LedAgent();
  beforeAll(async () => {
    server = await startTestServer(dialect, { agent });
    second = await server.startSecondNode();
  });
  afterAll(async () => {
    for (const number of agent.questions.keys()) agent.end(number);
    await second.stop();
    await server.stop();
  });

  const tokenFor = async (partner: TestPartner) => {
    const reply = await exchange(partner, subjectToken(partner, { sub: "ada" }), { form: { scope: "thread" } });
    expect(reply.status, reply.text).toBe(200);
    return String(reply.json["access_token"]);
  };
  async function createSubject(): Promise<Subject> {
    const partner = await createTestPartner(server, { subject_namespace: "external_user_id" }, KEY);
    const user = await createTestUser(partner, { external_user_id: "ada" });
    const token = await tokenFor(partner);
    const threadId = await createThread(server, token);
    return { partner, user, token, threadId, serviceAccount: await serviceAccountToken(partner) };
  }
  const openBoth = ({ threadId, token }: Subject) => Promise.all([server, second].map((node) => openStream(node, threadId, token)));

  /** Has a message worked on. Gives the number of its question. */
  async function ask({ threadId, token }: Subject): Promise<number> {
    await sendMessage(server, threadId, token, "question");
    const numberOf = () => agent.questions.findIndex((question) => question.threadId === threadId);
    for (let count = 1; numberOf() < 0; count++) await agent.asked(count);
    return numberOf();
  }

  const isChunk = (text: string) => (event: ReceivedEvent) => event.data["message"] === text;

  async function withdraw(what: string, withdrawal: Withdrawal) {
    const subject = await createSubject();
    const streams = await openBoth(subject);
    const number = await ask(subject);
    agent.say(number, "before");
    for (const stream of streams) await stream.until(isChunk("before"));
    expect((await withdrawal(subject, server)).status, what).toBe(200);
    const withdrawnAt = performance.now();
    agent.say(number, "after");
    const [here, elsewhere] = await Promise.all(
      streams.map(async (stream) => {
        await stream.ended;
        return { afterMs: performance.now() - withdrawnAt, events: stream.events, reason: stream.events.at(-1)?.data["reason"] };
      }),
    );
    const replies = [server, second].map((node) => call(node, "GET", `${HOME}/stream/${subject.threadId}`, subject.token));
    return { what, here, elsewhere, reopened: (await Promise.all(replies)).map(({ status }) => status) };
  }

  test.concurrent("P10.2: whatever withdraws a token ends its streams: at once where it was done, and within 5 s on another node, with no event after", async () => {
    const found = await Promise.all(Object.entries(WITHDRAWALS).map(([what, withdrawal]) => withdraw(what, withdrawal)));
    for (const { what, here, elsewhere, reopened } of found) {
      for (const at of [here, elsewhere]) {
        expect(reasonsOf(what), what).toContain(at?.reason);
        expect(at?.events.filter(isEnd), what).toHaveLength(1);
      }
      expect(here?.events.some(isChunk("after")), what).toBe(false);
      expect(here?.afterMs, what).toBeLessThan(AT_ONCE_MS_MAX);
      expect(elsewhere?.afterMs, what).toBeLessThan(ELSEWHERE_MS_MAX);
      const isScope = what.includes("scope");
      expect(reopened, what).toEqual(isScope ? [403, 403] : [401, 401]);
    }
    expectNothingSecretLogged(server);
    expectNothingSecretLogged(second);
  });

  test.concurrent("P10.2: the stream of the user's other token, and of the other user of its workspace, goes on", async () => {
    const subject = await createSubject();
    const others = await openBoth({ ...subject, token: await tokenFor(subject.partner) });
    const [here] = await openBoth(subject);
    const number = await ask(subject);
    expect((await admin(server, "POST", "/revocations", { jti: decodeJwt(subject.token).payload["jti"] })).status).toBe(200);
    await here?.ended;
    await sleep(ELSEWHERE_MS_MAX - 1_500);
    agent.say(number, "after");
    for (const stream of others) await stream.until(isChunk("after"));
    expect(here?.events.some(isChunk("after"))).toBe(false);
    for (const stream of others) stream.close();
  });

  test("P10.2: by the clock, when the token's exp is there and not before it; who has a new one goes on where it was", async () => {
    const subject = await createSubject();
    const streams = await openBoth(subject);
    const number = await ask(subject);
    agent.say(number, "before");
    for (const stream of streams) await stream.until(isChunk("before"));
    agent.end(number);
    for (const stream of streams) await stream.until(isComplete);
    const expiresAtMs = Number(decodeJwt(subject.token).payload["exp"]) * 1000;
    const setClock = (nowMs: number) => {
      for (const node of [server, second]) node.clock.offsetMs = nowMs - Date.now();
    };
    try {
      setClock(expiresAtMs - 10_000);
      await sleep(600); // two beats
      for (const stream of streams) expect(stream.events.some(isEnd)).toBe(false);
      setClock(expiresAtMs);
      const expiredAt = performance.now();
      await Promise.all(streams.map(({ ended }) => ended));
      expect(performance.now() - expiredAt).toBeLessThan(AT_ONCE_MS_MAX);
      for (const stream of streams) expect(stream.events.at(-1)).toMatchObject({ kind: "stream_end", data: { reason: "token_expired" } });
      setClock(expiresAtMs + 60_000); // a request is good for some seconds more: clocks of nodes differ
      for (const node of [server, second])
        expect((await call(node, "GET", `${HOME}/stream/${subject.threadId}`, subject.token)).status).toBe(401);
      const token = await tokenFor(subject.partner);
      const last = streams[0]?.events.at(-1)?.id;
      const next = await openStream(second, subject.threadId, token, { "last-event-id": String(last) });
      await sendMessage(server, subject.threadId, token, "again");
      await agent.asked(agent.questions.length);
      await expect.poll(() => agent.questions.filter(({ threadId }) => threadId === subject.threadId).length).toBe(2);
      agent.end(agent.questions.findLastIndex(({ threadId }) => threadId === subject.threadId));
      expect((await next.until(isComplete))[0]?.id).toBe(Number(last) + 1);
      for (const stream of streams) expect(stream.events.at(-1)?.kind).toBe("stream_end");
      next.close();
    } finally {
      setClock(Date.now());
    }
  });

  test("P10.2: the emergency removal of our own signing key ends the streams of what it has signed, on both nodes", async () => {
    const subject = await createSubject();
    const streams = await openBoth(subject);
    expect((await admin(server, "POST", "/keys/rotate", { emergency: true })).status).toBe(200);
    const removedAt = performance.now();
    await Promise.all(streams.map(({ ended }) => ended));
    expect(performance.now() - removedAt).toBeLessThan(ELSEWHERE_MS_MAX);
    for (const stream of streams) expect(stream.events.at(-1)?.data).toEqual({ reason: "token_ended" });
  });
});
