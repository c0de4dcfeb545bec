import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type DemoSigner, signSubjectToken } from "../packages/server/src/cli/sandbox-token.ts";
import { root } from "./contender.ts";
import { Operator } from "./partner.ts";
import { freePort, type ServerCommand, ServerProcess } from "./server-process.ts";
import { StreamReader } from "./streams-reader.ts";

const AT_ONCE = 16;
/** Above what any measure opens. */
const LIMITS = { requests_per_minute: 1_000_000, burst: 100_000, streams: 20_000 };

const ACCOUNTS = "/v2/account-management";

type Json = Readonly<Record<string, unknown>>;

/** What the agent of streams-server.mjs is to say. `everyMs` 0: as fast as it is taken. */
export interface Speech {
  readonly chunks: number;
  readonly everyMs: number;
  readonly characters: number;
}

export interface Conversation {
  readonly token: string;
  readonly threadId: string;
}

/** A server of streams-server.mjs on the data of a sandbox, and the demo partner with users in it. */
export class StreamsHome {
  readonly dataDir: string;
  private readonly command: ServerCommand;
  private serverNow: ServerProcess;
  private readonly signer: DemoSigner;
  private service: ReturnType<StreamsHome["openAccounts"]> | undefined;

  private constructor(command: ServerCommand, dataDir: string, server: ServerProcess) {
    this.command = command;
    this.dataDir = dataDir;
    this.serverNow = server;
    const partner = JSON.parse(readFileSync(join(dataDir, "demo-partner.json"), "utf8")) as DemoSigner["partner"];
    this.signer = { partner, privateKeyPem: readFileSync(join(dataDir, "demo-partner-key.pem"), "utf8") };
  }

  static async open(folder: string, environment: Readonly<Record<string, string>>, nodeArgs: readonly string[] = []): Promise<StreamsHome> {
    const dataDir = join(folder, "data");
    mkdirSync(dataDir, { recursive: true });
    const common = {
      port: await freePort(),
      environment: { CAMBIST_DATA_DIR: dataDir, CAMBIST_LOG_LEVEL: "warn", ...environment },
      outputPath: join(folder, "server.log"),
      readyPath: "/readyz",
    };
    // the first start makes the schema, the demo partner and the keys
    const first = await ServerProcess.start({ ...common, args: [join(root, "packages", "server", "bin", "cambist.js"), "sandbox"] });
    const operator = new Operator(common.port, dataDir);
    await operator.updatePartner(await demoClientId(dataDir), { rate_limits: LIMITS });
    await first.server.stop();
    const command = { ...common, args: [...nodeArgs, join(root, "bench", "streams-server.mjs")] };
    const { server } = await ServerProcess.start(command);
    return new StreamsHome(command, dataDir, server);
  }

  get server(): ServerProcess {
    return this.serverNow;
  }

  get port(): number {
    return this.command.port;
  }

  get clientId(): string {
    return this.signer.partner.clientId;
  }

  /** Stops it, does what needs the store for itself, and starts it again. */
  async restart(between: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    await this.serverNow.stop();
    await between();
    this.serverNow = (await ServerProcess.start(this.command)).server;
  }

  stop(): Promise<void> {
    return this.serverNow.stop();
  }

  /** Threads, each with a user and a token of its own. */
  conversations(count: number): Promise<Conversation[]> {
    return inTurns(Array.from({ length: count }), async () => {
      const token = await this.newToken();
      return { token, threadId: await this.newThread(token) };
    });
  }

  /** Of a new user. */
  async newToken(): Promise<string> {
    this.service ??= this.openAccounts();
    const { token, workspaceId } = await this.service;
    const made = await this.call("PUT", `${ACCOUNTS}/user`, token, { workspace_id: workspaceId, name: "User" });
    return this.exchange((made["user"] as { user_id: string }).user_id);
  }

  private async openAccounts(): Promise<{ readonly token: string; readonly workspaceId: string }> {
    const token = await this.exchange(this.clientId);
    const names = { org_name: "Bench", workspace_name: "Bench" };
    const made = await this.call("PUT", `${ACCOUNTS}/organization-and-workspace`, token, names);
    return { token, workspaceId: (made["workspace"] as { workspace_id: string }).workspace_id };
  }

  async newThread(token: string): Promise<string> {
    return String((await this.call("POST", "/v2/threads", token, { thread_name: "Bench" }))["thread_id"]);
  }

  async send({ token, threadId }: Conversation, speech: Speech): Promise<void> {
    await this.call("POST", `/v2/threads/${threadId}/messages`, token, { message: JSON.stringify(speech) });
  }

  stream({ token, threadId }: Conversation): Promise<StreamReader> {
    return StreamReader.open(this.port, `/v2/threads/stream/${threadId}`, { authorization: `Bearer ${token}` });
  }

  private async exchange(subject: string): Promise<string> {
    const body = new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
      subject_token: signSubjectToken(this.signer, subject),
      client_id: this.clientId,
      client_secret: this.signer.partner.clientSecret,
    });
    return String((await this.fetch("/oauth2/token", { method: "POST", body }))["access_token"]);
  }

  private call(method: string, path: string, token: string, body: Json): Promise<Json> {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    return this.fetch(path, { method, headers, body: JSON.stringify(body) });
  }

  private async fetch(path: string, init: RequestInit): Promise<Json> {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, init);
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return (await response.json()) as Json;
  }
}

/** Some at a time: a node accepts one new connection in each turn of its loop. */
export async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += AT_ONCE) {
    results.push(...(await Promise.all(items.slice(at, at + AT_ONCE).map(work))));
  }
  return results;
}

/** Written after the server is ready. */
async function demoClientId(dataDir: string): Promise<string> {
  for (let tries = 200; ; tries--) {
    try {
      return (JSON.parse(readFileSync(join(dataDir, "demo-partner.json"), "utf8")) as DemoSigner["partner"]).clientId;
    } catch (thrown) {
      if (tries === 0) throw thrown;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
