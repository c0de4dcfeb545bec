import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { newKeyPair } from "../packages/server/src/keys/key-pair.ts";

/** The operator of a sandbox that a bench has started. */
export class Operator {
  private readonly port: number;
  private readonly dataDir: string;
  private readonly token: string;

  constructor(port: number, dataDir: string) {
    this.port = port;
    this.dataDir = dataDir;
    this.token = readFileSync(join(dataDir, "operator-token"), "utf8").trim();
  }

  /** Registers a partner. Gives its client id, and a folder with what the sandbox writes for its demo partner, for {@link Subjects}. */
  async createPartner(name: string): Promise<{ readonly clientId: string; readonly folder: string }> {
    const { publicKey, privateKey } = newKeyPair("RS256");
    const key = { ...publicKey.export({ format: "jwk" }), kid: "bench", alg: "RS256", use: "sig" };
    const answer = await this.ask("POST", "/partners", { name, jwks: { keys: [key] } });
    const { partner, client_secret: clientSecret } = answer as { partner: { client_id: string; audience: string }; client_secret: string };
    const { client_id: clientId, audience } = partner;
    const folder = join(this.dataDir, clientId);
    mkdirSync(folder);
    writeFileSync(join(folder, "demo-partner.json"), JSON.stringify({ clientId, clientSecret, audience, kid: "bench" }));
    writeFileSync(join(folder, "demo-partner-key.pem"), privateKey.export({ format: "pem", type: "pkcs8" }));
    return { clientId, folder };
  }

  async updatePartner(clientId: string, fields: object): Promise<void> {
    await this.ask("PATCH", `/partners/${clientId}`, fields);
  }

  private async ask(method: string, path: string, body: object): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.token}`, "content-type": "application/json" };
    const response = await fetch(`http://127.0.0.1:${this.port}/admin/v1${path}`, { method, headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`);
    return response.json();
  }
}
