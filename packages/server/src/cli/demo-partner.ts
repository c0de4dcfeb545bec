import { createPublicKey } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createPartnerBody } from "../admin/partner-fields.ts";
import { createPartner } from "../admin/partner-record.ts";
import { adminDeps } from "../app.ts";
import type { Deps } from "../deps.ts";
import { newKeyPair } from "../keys/key-pair.ts";

/** What the demo partner holds of its own, as a real partner's backend would: kept in the data folder, readable by its owner only. */
export interface DemoPartner {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly audience: string;
  readonly kid: string;
}

const PARTNER_FILE = "demo-partner.json";
const KEY_FILE = "demo-partner-key.pem";
const KID = "demo-partner";

/** @throws where the sandbox has not run in this folder. */
export function readDemoPartner(dataDir: string): { readonly partner: DemoPartner; readonly privateKeyPem: string } {
  if (!existsSync(join(dataDir, PARTNER_FILE)) || !existsSync(join(dataDir, KEY_FILE))) {
    throw new Error(`there is no demo partner in ${dataDir}; start the sandbox first (npm start), or name its folder in CAMBIST_DATA_DIR`);
  }
  return {
    partner: JSON.parse(readFileSync(join(dataDir, PARTNER_FILE), "utf8")) as DemoPartner,
    privateKeyPem: readFileSync(join(dataDir, KEY_FILE), "utf8"),
  };
}

/** The demo partner of this store, made where it is missing; its audience follows the public URL. */
export async function ensureDemoPartner(deps: Deps): Promise<DemoPartner> {
  const { config, store, masterKeys, nowMs } = deps;
  const known = existsSync(join(config.dataDir, PARTNER_FILE)) ? readDemoPartner(config.dataDir).partner : undefined;
  const stored = known && (await store.partners.find(known.clientId));
  if (!known || !stored || masterKeys.findSecret(known.clientSecret, stored.secrets) < 0) return makeDemoPartner(deps);
  if (known.audience === config.publicUrl && stored.audience === config.publicUrl) return known;
  await store.partners.update(known.clientId, { audience: config.publicUrl }, nowMs);
  return writeDemoPartner(config.dataDir, { ...known, audience: config.publicUrl });
}

async function makeDemoPartner(deps: Deps): Promise<DemoPartner> {
  const { dataDir, publicUrl } = deps.config;
  const keyPath = join(dataDir, KEY_FILE);
  if (!existsSync(keyPath)) {
    const { privateKey } = newKeyPair("RS256");
    writeFileSync(keyPath, privateKey.export({ format: "pem", type: "pkcs8" }), { mode: 0o600, flag: "wx" });
  }
  const jwk = createPublicKey(readFileSync(keyPath, "utf8")).export({ format: "jwk" });
  const fields = createPartnerBody.parse({
    name: "Demo partner",
    jwks: { keys: [{ ...jwk, kid: KID, alg: "RS256", use: "sig" }] },
    allowed_grants: ["token-exchange", "client_credentials"],
    rate_limits: { requests_per_minute: 1_000_000, burst: 100_000 }, // what it is measured with must be the server, not its limits
  });
  const { partner, clientSecret = "" } = await createPartner(fields, adminDeps(deps));
  return writeDemoPartner(dataDir, { clientId: partner.clientId, clientSecret, audience: publicUrl, kid: KID });
}

function writeDemoPartner(dataDir: string, partner: DemoPartner): DemoPartner {
  writeFileSync(join(dataDir, PARTNER_FILE), `${JSON.stringify(partner, null, 2)}\n`, { mode: 0o600 });
  return partner;
}
