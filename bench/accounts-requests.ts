import { createPrivateKey, type KeyObject, randomUUID, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { filledWorkspaces, type Holding, organizationOf, seededExternalId, seededId } from "./accounts-seed.ts";

/** As the sandbox writes it into its data folder. */
export interface DemoPartner {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly audience: string;
  readonly kid: string;
}

export const PAGE = 200;
/** The longest that a partner may use: a token signed before the first round must still hold in the last. */
const TOKEN_SECONDS = 3_600;
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";

const below = (count: number) => Math.floor(Math.random() * count);

/** Makes the requests of one partner, for accounts that were seeded: whole, before any of them is sent. */
export class PartnerRequests {
  readonly holding: Holding;
  private readonly port: number;
  private readonly partner: DemoPartner;
  private readonly privateKey: KeyObject;
  private readonly header: string;
  private token = "";
  /** Those that lead to a full page. */
  private cursors: string[] = [];

  constructor(port: number, dataDir: string, partner: DemoPartner, holding: Holding) {
    this.port = port;
    this.partner = partner;
    this.holding = holding;
    this.privateKey = createPrivateKey(readFileSync(join(dataDir, "demo-partner-key.pem"), "utf8"));
    this.header = encode({ alg: "RS256", typ: "JWT", kid: partner.kid });
  }

  /** Gets a service account's token, and reads `pages` pages of the list, from the start again where it ends. */
  async prepare(pages: number): Promise<void> {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const body = this.exchangeForm(this.partner.clientId);
    const answer = await this.fetchJson("/oauth2/token", { method: "POST", headers, body });
    this.token = String(answer["access_token"]);
    const cursors = new Set<string>();
    let cursor: string | undefined;
    for (let n = 0; n < pages; n++) {
      const page = await this.fetchJson("/v2/account-management/entities", {
        method: "POST",
        headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json" },
        body: JSON.stringify({ limit: PAGE, ...(cursor === undefined ? {} : { cursor }) }),
      });
      const entities = ["organizations", "workspaces", "users"].flatMap((kind) => page[kind] as unknown[]);
      if (cursor !== undefined && entities.length === PAGE) cursors.add(cursor);
      cursor = (page["next_cursor"] as string | null | undefined) ?? undefined;
    }
    this.cursors = [...cursors];
    if (cursors.size === 0) throw new Error(`the list of ${this.holding.clientId} has no full page behind its first`);
  }

  userById(): Buffer {
    const { clientId, users } = this.holding;
    return this.account("GET", `user?user_id=${seededId("user", clientId, below(users))}`);
  }

  userByExternalId(): Buffer {
    const { clientId, users } = this.holding;
    return this.account("GET", `user?external_user_id=${seededExternalId("user", clientId, below(users))}`);
  }

  createUser(): Buffer {
    const external = randomUUID();
    const contact = { email: `${external.slice(0, 8)}@company.example`, name: "User Number New" };
    return this.account("PUT", "user", { workspace_id: this.someWorkspace().id, external_user_id: `user-${external}`, ...contact });
  }

  page(): Buffer {
    return this.account("POST", "entities", { limit: PAGE, cursor: this.cursors[below(this.cursors.length)] });
  }

  pageOfWorkspace(): Buffer {
    return this.account("POST", "entities", { limit: PAGE, workspace_ids: [this.someWorkspace().id] });
  }

  pageOfOrganization(): Buffer {
    const organization = organizationOf(this.holding, this.someWorkspace().n);
    return this.account("POST", "entities", { limit: PAGE, org_ids: [seededId("org", this.holding.clientId, organization)] });
  }

  /** Nine in ten are for a user, the others for the service account. */
  exchange(): Buffer {
    const { clientId, users } = this.holding;
    const form = this.exchangeForm(below(10) === 0 ? clientId : seededId("user", clientId, below(users)));
    return this.request("POST", "/oauth2/token", "Content-Type: application/x-www-form-urlencoded", form);
  }

  private someWorkspace() {
    const n = below(filledWorkspaces(this.holding));
    return { n, id: seededId("workspace", this.holding.clientId, n) };
  }

  private account(method: string, path: string, body?: object): Buffer {
    const type = body === undefined ? "" : "\r\nContent-Type: application/json";
    const headers = `Authorization: Bearer ${this.token}${type}`;
    return this.request(method, `/v2/account-management/${path}`, headers, body === undefined ? undefined : JSON.stringify(body));
  }

  private request(method: string, path: string, headers: string, body: string | undefined): Buffer {
    const length = body === undefined ? "" : `\r\nContent-Length: ${Buffer.byteLength(body)}`;
    return Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:${this.port}\r\n${headers}${length}\r\n\r\n${body ?? ""}`);
  }

  private exchangeForm(subject: string): string {
    const now = Math.floor(Date.now() / 1000);
    const { clientId, clientSecret, audience } = this.partner;
    const claims = { iss: clientId, sub: subject, aud: audience, iat: now, exp: now + TOKEN_SECONDS, jti: randomUUID() };
    const signingInput = `${this.header}.${encode(claims)}`;
    const subjectToken = `${signingInput}.${sign("sha256", Buffer.from(signingInput), this.privateKey).toString("base64url")}`;
    const type = "urn:ietf:params:oauth:token-type:jwt";
    const form = { grant_type: EXCHANGE, client_id: clientId, client_secret: clientSecret, subject_token_type: type };
    return new URLSearchParams({ ...form, subject_token: subjectToken }).toString();
  }

  private async fetchJson(path: string, init: RequestInit): Promise<Record<string, unknown>> {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, init);
    if (response.status !== 200) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return (await response.json()) as Record<string, unknown>;
  }
}

/** `count` of them; a signature takes a millisecond, so a signal is let through now and then. */
export async function makeRequests(count: number, make: () => Buffer): Promise<Buffer[]> {
  const requests: Buffer[] = [];
  while (requests.length < count) {
    requests.push(make());
    if (requests.length % 100 === 0) await nextTurn();
  }
  return requests;
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
