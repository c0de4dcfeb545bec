import { createPrivateKey, type KeyObject, randomUUID, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

/** As the sandbox writes it into its data folder. */
interface DemoPartner {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly audience: string;
  readonly kid: string;
}

/** The longest that a partner may use: a token signed before the first round must still hold in the last. */
const TOKEN_SECONDS = 3_600;
/** Every tenth request is for the service account. */
const SERVICE_ACCOUNT_EVERY = 10;
const CREATE_AT_ONCE = 16;
const PROGRESS_EVERY = 5_000;

/** Signs as the demo partner of one sandbox, for users that it created there. */
export class Subjects {
  private readonly port: number;
  private readonly partner: DemoPartner;
  private readonly privateKey: KeyObject;
  private readonly header: string;
  private readonly users: string[] = [];
  private signed = 0;

  constructor(port: number, dataDir: string) {
    this.port = port;
    this.partner = JSON.parse(readFileSync(join(dataDir, "demo-partner.json"), "utf8")) as DemoPartner;
    this.privateKey = createPrivateKey(readFileSync(join(dataDir, "demo-partner-key.pem"), "utf8"));
    this.header = encode({ alg: "RS256", typ: "JWT", kid: this.partner.kid });
  }

  /** An organization, a workspace and the users in it, through the API. */
  async createUsers(count: number): Promise<void> {
    const token = await this.serviceAccountToken();
    const put = async (path: string, body: object): Promise<Record<string, Record<string, string>>> => {
      const response = await fetch(`http://127.0.0.1:${this.port}/v2/account-management/${path}`, {
        method: "PUT",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      if (response.status !== 201) throw new Error(`PUT ${path} answered ${response.status}: ${await response.text()}`);
      return (await response.json()) as Record<string, Record<string, string>>;
    };
    const home = await put("organization-and-workspace", { org_name: "Bench", workspace_name: "Bench" });
    const workspaceId = home["workspace"]?.["workspace_id"];
    while (this.users.length < count) {
      const batch = Array.from({ length: Math.min(CREATE_AT_ONCE, count - this.users.length) }, (_, i) => this.users.length + i);
      const created = await Promise.all(batch.map((n) => put("user", { workspace_id: workspaceId, name: `User ${n}` })));
      for (const { user } of created) this.users.push(user?.["user_id"] ?? "");
    }
  }

  /** Whole HTTP requests, each with a subject token of its own, which can be exchanged once. */
  async requests(count: number, progress: (line: string) => void): Promise<Buffer[]> {
    const requests: Buffer[] = [];
    while (requests.length < count) {
      requests.push(this.exchangeRequest(this.nextSubject()));
      if (requests.length % 100 === 0) await nextTurn(); // let a signal through
      if (requests.length % PROGRESS_EVERY === 0 || requests.length === count) {
        progress(`signed ${requests.length} of ${count} subject tokens`);
      }
    }
    return requests;
  }

  private nextSubject(): string {
    const n = this.signed++;
    if (n % SERVICE_ACCOUNT_EVERY === 0) return this.partner.clientId;
    return this.users.at((n - Math.ceil(n / SERVICE_ACCOUNT_EVERY)) % this.users.length)!;
  }

  private exchangeForm(subject: string): string {
    return new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      client_id: this.partner.clientId,
      client_secret: this.partner.clientSecret,
      subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
      subject_token: this.sign(subject),
    }).toString();
  }

  private exchangeRequest(subject: string): Buffer {
    const form = this.exchangeForm(subject);
    const head = [
      "POST /oauth2/token HTTP/1.1",
      `Host: 127.0.0.1:${this.port}`,
      "Accept: application/json",
      "Content-Type: application/x-www-form-urlencoded",
      `Content-Length: ${form.length}`,
    ];
    return Buffer.from(`${head.join("\r\n")}\r\n\r\n${form}`, "latin1");
  }

  private sign(subject: string): string {
    const now = Math.floor(Date.now() / 1000);
    const { clientId, audience } = this.partner;
    const claims = { iss: clientId, sub: subject, aud: audience, iat: now, exp: now + TOKEN_SECONDS, jti: randomUUID() };
    const signingInput = `${this.header}.${encode(claims)}`;
    return `${signingInput}.${sign("sha256", Buffer.from(signingInput), this.privateKey).toString("base64url")}`;
  }

  private async serviceAccountToken(): Promise<string> {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const body = this.exchangeForm(this.partner.clientId);
    const response = await fetch(`http://127.0.0.1:${this.port}/oauth2/token`, { method: "POST", headers, body });
    if (response.status !== 200) throw new Error(`the service account got no token: ${await response.text()}`);
    return ((await response.json()) as { access_token: string }).access_token;
  }
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
