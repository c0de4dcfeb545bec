import { randomBytes, randomUUID } from "node:crypto";
import { connect } from "node:net";
import { type App, createApp } from "../app.ts";
import type { Config } from "../config.ts";
import { type Deps, type DepsOverrides, openDeps } from "../deps.ts";
import type { Agent } from "../agents/agent.ts";
import { WrongSecrets } from "../http/wrong-secrets.ts";
import { openLog } from "../telemetry/log.ts";
import { createMigratedDatabase, type DialectName, type TestDatabase } from "./database.ts";
import { type Reply, send } from "./http.ts";
import { makeTestKey, type Part, signJwt, type TestKey } from "./jwt.ts";

export { type Reply, send };

export const GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt";
export const ISSUER = "https://cambist.test";
export const OPERATOR_TOKEN = "operator-token-of-the-tests-0123456789abcdef";

/** How our API asks for a token (RFC 6750 §3), and says where to get one (RFC 9728 §5.1). */
export function bearerChallenge(parameters = ""): string {
  return `Bearer realm="cambist"${parameters}, resource_metadata="${ISSUER}/.well-known/oauth-protected-resource/v2"`;
}

/** The real application on a real store and a real port. */
export interface TestServer {
  readonly url: string;
  readonly port: number;
  readonly app: App;
  readonly deps: Deps;
  readonly database: TestDatabase;
  /** Every log line so far. */
  readonly logLines: string[];
  /** Added to the server's clock, milliseconds. */
  readonly clock: { offsetMs: number };
  nowSeconds(): number;
  /** Another node on the same database. */
  startSecondNode(): Promise<TestServer>;
  stop(): Promise<void>;
}

/**
 * `network`: a resolver and certificates of the test's own. `limitsWrongSecrets`: tests send wrong secrets by the hundred, from one address, and are
 * not limited unless they are about that.
 */
export interface TestOverrides extends Partial<Config> {
  readonly network?: DepsOverrides["network"] | undefined;
  readonly limitsWrongSecrets?: boolean;
  readonly agent?: Agent | undefined;
}

const LIFTED = { requestsPerMinute: 1_000_000, burst: 1_000_000 };

/** @param route changes the way to PostgreSQL, so that a test may stand in it. */
export async function startTestServer(
  dialect: DialectName,
  { network, agent, ...overrides }: TestOverrides = {},
  route: (postgresUrl: string) => string = (url) => url,
): Promise<TestServer> {
  const database = await createMigratedDatabase(dialect);
  const routed = "postgresUrl" in database.location ? { databaseUrl: route(database.location.postgresUrl) } : {};
  const server = await startNode(database, { masterKeys: [randomBytes(32)], ...routed, ...overrides, network, agent });
  return { ...server, stop: () => server.stop().then(() => database.drop()) };
}

async function startNode(
  database: TestDatabase,
  { network, agent, limitsWrongSecrets = false, ...overrides }: TestOverrides,
): Promise<TestServer> {
  const logLines: string[] = [];
  const clock = { offsetMs: 0 };
  const sqlitePath = "sqlitePath" in database.location ? database.location.sqlitePath : undefined;
  const config: Config = {
    mode: "serve",
    host: "127.0.0.1",
    port: 0,
    publicUrl: ISSUER,
    dataDir: sqlitePath === undefined ? "" : sqlitePath.replace(/\/cambist\.db$/, ""),
    databaseUrl: "postgresUrl" in database.location ? database.location.postgresUrl : undefined,
    masterKeys: [],
    operatorToken: OPERATOR_TOKEN,
    signingAlgorithm: "ES256",
    signingKeyDays: 90,
    logLevel: "debug",
    jwksAllowHosts: new Set(),
    trustedProxies: [],
    ...overrides,
  };
  const nowMs = () => Date.now() + clock.offsetMs;
  const log = openLog("debug", { write: (line) => void logLines.push(line) });
  const wrongSecrets = limitsWrongSecrets ? {} : { wrongSecrets: new WrongSecrets({ nowMs, limits: LIFTED, onUsedUp: () => undefined }) };
  const deps = await openDeps(config, {
    log,
    nowMs,
    ...wrongSecrets,
    ...(network === undefined ? {} : { network }),
    ...(agent === undefined ? {} : { agent }),
  });
  const app = createApp(deps);
  const port = await app.start();
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    app,
    deps,
    database,
    logLines,
    clock,
    nowSeconds: () => Math.floor(nowMs() / 1000),
    startSecondNode: () => startNode(database, { ...overrides, limitsWrongSecrets, network, agent }),
    stop: () => app.stop(),
  };
}

/** A call with a bearer token and a JSON body. */
export function call(server: Pick<TestServer, "url">, method: string, path: string, token: string, body?: unknown): Promise<Reply> {
  const headers: Record<string, string> = { authorization: `Bearer ${token}` };
  if (body === undefined) return send(server, method, path, { headers });
  headers["content-type"] = "application/json";
  return send(server, method, path, { headers, body: typeof body === "string" ? body : JSON.stringify(body) });
}

export function admin(server: Pick<TestServer, "url">, method: string, path: string, body?: unknown): Promise<Reply> {
  return call(server, method, `/admin/v1${path}`, OPERATOR_TOKEN, body);
}

/**
 * Bytes as they are: what no HTTP client would send. Resolves with all that came back until the server closed, or it is enough, or the time is over:
 * by default what a busy machine may need.
 */
export function sendRaw(
  server: Pick<TestServer, "port">,
  request: string | Uint8Array,
  waitMs = 20_000,
  isEnough: (received: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(server.port, "127.0.0.1");
    let received = "";
    const timer = setTimeout(() => socket.destroy(), waitMs);
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      if (isEnough(received)) socket.destroy();
    });
    socket.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE" ? undefined : reject(error),
    );
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(received);
    });
    socket.write(request);
  });
}

/** A partner of a test's own. */
export interface TestPartner {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly key: TestKey;
  readonly server: TestServer;
}

/** One RSA pair for all: making one costs a quarter of a second, and partners are told apart by their record. */
const sharedKey = makeTestKey("RS256", "key-1");

export async function createTestPartner(
  server: TestServer,
  fields: Record<string, unknown> = {},
  key: TestKey = sharedKey,
): Promise<TestPartner> {
  const reply = await admin(server, "POST", "/partners", { name: "Test partner", jwks: { keys: [key.publicJwk] }, ...fields });
  if (reply.status !== 201) throw new Error(`the partner was not created: ${reply.text}`);
  const { partner, client_secret: clientSecret } = reply.json as { partner: { client_id: string }; client_secret: string };
  return { clientId: partner.client_id, clientSecret, key, server };
}

/** Claims of a subject token that passes, for the partner's service account unless `sub` says otherwise. */
export function subjectClaims(partner: TestPartner, changes: Record<string, unknown> = {}): Record<string, unknown> {
  const now = partner.server.nowSeconds();
  return { iss: partner.clientId, sub: partner.clientId, aud: ISSUER, iat: now, exp: now + 300, jti: randomUUID(), ...changes };
}

/** A subject token that passes, but for the changes. `undefined` takes a claim or header member away. */
export function subjectToken(partner: TestPartner, changes: Record<string, unknown> = {}, header: Record<string, unknown> = {}): string {
  const { key } = partner;
  return signJwt({ alg: key.algorithm, kid: key.kid, ...header }, subjectClaims(partner, changes) satisfies Part, key);
}

export interface ExchangeOptions {
  /** Over the defaults; `undefined` takes a parameter away. */
  readonly form?: Record<string, string | undefined>;
  readonly headers?: Record<string, string>;
  /** `post` unless told. */
  readonly auth?: "basic" | "post" | "none";
  /** Another node, or another partner's server. */
  readonly at?: Pick<TestServer, "url">;
}

export function exchange(
  partner: TestPartner,
  token: string,
  { form = {}, headers = {}, auth = "post", at }: ExchangeOptions = {},
): Promise<Reply> {
  const parameters = exchangeForm(partner, token, auth);
  for (const [name, value] of Object.entries(form)) {
    if (value === undefined) parameters.delete(name);
    else parameters.set(name, value);
  }
  const authorization = auth === "basic" ? { authorization: basic(partner.clientId, partner.clientSecret) } : {};
  const contentType = { "content-type": "application/x-www-form-urlencoded" };
  return send(at ?? partner.server, "POST", "/oauth2/token", {
    headers: { ...contentType, ...authorization, ...headers },
    body: parameters.toString(),
  });
}

/** The default form; the tests that need two parameters of one name start from here. */
export function exchangeForm(partner: TestPartner, token: string, auth: ExchangeOptions["auth"] = "post"): URLSearchParams {
  const client = auth === "post" ? { client_id: partner.clientId, client_secret: partner.clientSecret } : {};
  return new URLSearchParams({ grant_type: GRANT_TYPE, subject_token: token, subject_token_type: JWT_TYPE, ...client });
}

/** RFC 6749 §2.3.1: each half form-encoded, joined, base64. */
export function basic(clientId: string, secret: string): string {
  return `Basic ${Buffer.from(`${encodeURIComponent(clientId)}:${encodeURIComponent(secret)}`).toString("base64")}`;
}

export async function serviceAccountToken(partner: TestPartner): Promise<string> {
  const reply = await exchange(partner, subjectToken(partner));
  if (reply.status !== 200) throw new Error(`no service-account token: ${reply.text}`);
  return (reply.json as { access_token: string }).access_token;
}

export interface TestUser {
  readonly userId: string;
  readonly workspaceId: string;
  readonly orgId: string;
}

/** An organization with a workspace and a user in it, made through the API. */
export async function createTestUser(partner: TestPartner, fields: Record<string, unknown> = {}): Promise<TestUser> {
  const token = await serviceAccountToken(partner);
  const home = await call(partner.server, "PUT", "/v2/account-management/organization-and-workspace", token, {});
  const { org, workspace } = home.json as { org: { org_id: string }; workspace: { workspace_id: string } };
  const created = await call(partner.server, "PUT", "/v2/account-management/user", token, {
    workspace_id: workspace.workspace_id,
    ...fields,
  });
  if (created.status !== 201) throw new Error(`no user: ${created.text}`);
  const { user } = created.json as { user: { user_id: string } };
  return { userId: user.user_id, workspaceId: workspace.workspace_id, orgId: org.org_id };
}

/** The recorded exchange of a reply, by its trace id (refused), or the partner's last one (granted). */
export async function recordedExchange(server: TestServer, traceId: string): Promise<Record<string, unknown> | undefined> {
  return (await server.database.query("SELECT * FROM exchanges WHERE trace_id = $1", [traceId]))[0];
}
