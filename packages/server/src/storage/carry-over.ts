import type { Schema } from "./schema.ts";
import type { StoreFiles } from "./store-file.ts";

/**
 * What the replaced store had taken away, taken away from the restored one too. Only that: nothing is given that the backup does not
 * give, so that a restore also undoes what an intruder has added.
 */
export interface Withdrawals {
  /** Disabled in the replaced store, and so in the restored one. */
  readonly disabled: Readonly<Record<"partners" | AccountTable, number>>;
  /** Erased from the replaced store since the backup, and so from the restored one. */
  readonly erased: Readonly<Record<AccountTable, number>>;
  readonly secretsRemoved: number;
  readonly partnerKeysRemoved: number;
  /** Client ids: none of the keys in the backup counts any more. */
  readonly partnersWithoutKeys: readonly string[];
  readonly signingKeysRemoved: number;
  /** Client ids: settings differ between the two stores, and are those of the backup. */
  readonly settingsDiffer: readonly string[];
  /** Client ids that only the replaced store knows. */
  readonly partnersMissing: readonly string[];
}

type AccountTable = "organizations" | "workspaces" | "users";

type Draft = { -readonly [K in keyof Withdrawals]: Withdrawals[K] };
type Step = (files: StoreFiles, report: Draft) => void;

const asInBackup: Step = () => undefined;

/** In this order. A new table does not compile without an answer to the question what of it a restore must not bring back. */
const STEPS: Readonly<Record<keyof Schema, Step>> = {
  partner_origins: withdrawOrigins, // before partners, which compares the settings
  partners: withdrawFromPartners,
  partner_secrets: removeSecrets,
  partner_jwks: asInBackup, // emptied by every restore
  users: withdrawAccounts("users", "user_id"), // from the leaves up: an erased organization has nothing below it
  workspaces: withdrawAccounts("workspaces", "workspace_id"),
  organizations: withdrawAccounts("organizations", "org_id"),
  idempotent_requests: forgetAnswersOfErased,
  provisioning_quotas: asInBackup,
  rate_limit_buckets: asInBackup,
  signing_keys: withdrawSigningKeys,
  spent_tokens: keepSpent,
  opaque_tokens: asInBackup, // all of them are from before the restore, and dead for that
  revocations: keepRevocations,
  resource_server_secrets: removeResourceServerSecrets,
  resource_servers: asInBackup,
  scopes: asInBackup,
  exchanges: asInBackup, // the replaced store is kept, and its record with it
  threads: eraseThreads, // what is in them goes with them
  thread_messages: asInBackup,
  thread_tasks: asInBackup, // what had no answer then gets one now
  thread_events: asInBackup,
  thread_artifacts: asInBackup,
  thread_files: asInBackup,
  store_state: asInBackup, // written by every restore
  leases: asInBackup, // emptied by every restore
  migrations: asInBackup,
};

/** Both stores are attached, as `restored` and `replaced`, in one transaction of the caller's. */
export function carryOver(files: StoreFiles): Withdrawals {
  const report: Draft = {
    disabled: { partners: 0, organizations: 0, workspaces: 0, users: 0 },
    erased: { organizations: 0, workspaces: 0, users: 0 },
    secretsRemoved: 0,
    partnerKeysRemoved: 0,
    partnersWithoutKeys: [],
    signingKeysRemoved: 0,
    settingsDiffer: [],
    partnersMissing: [],
  };
  for (const step of Object.values(STEPS)) step(files, report);
  return report;
}

/**
 * An origin that was taken off the list may be in other hands by now, like a key. It goes from both places in which it stands; the rest of the
 * settings is as in the backup. Of partners that the replaced store knows, and where it knows of origins.
 */
function withdrawOrigins(files: StoreFiles): void {
  if (!hasColumn(files, "partner_origins", "origin")) return;
  const withdrawn = files.rows<{ partner_id: string }>(
    `DELETE FROM restored.partner_origins WHERE partner_id IN (SELECT client_id FROM replaced.partners)
      AND (partner_id, origin) NOT IN (SELECT partner_id, origin FROM replaced.partner_origins) RETURNING partner_id`,
  );
  for (const clientId of new Set(withdrawn.map((row) => row.partner_id))) {
    files.rows(
      `UPDATE restored.partners SET settings = json_set(settings, '$.allowedOrigins', json((
        SELECT json_group_array(listed.value) FROM json_each(settings, '$.allowedOrigins') AS listed
          WHERE listed.value IN (SELECT origin FROM restored.partner_origins WHERE partner_id = client_id)))) WHERE client_id = ?`,
      clientId,
    );
  }
}

function withdrawFromPartners(files: StoreFiles, report: Draft): void {
  const disabled = files.rows(
    `UPDATE restored.partners SET status = 'disabled' WHERE status = 'active'
      AND client_id IN (SELECT client_id FROM replaced.partners WHERE status = 'disabled') RETURNING client_id`,
  );
  report.disabled = { ...report.disabled, partners: disabled.length };
  withdrawPartnerKeys(files, report);
  // past what either store has given out: a version stands for one state of the record
  files.exec(
    `UPDATE restored.partners AS p SET version = 1 + max(p.version,
      coalesce((SELECT r.version FROM replaced.partners r WHERE r.client_id = p.client_id), 0))`,
  );
  report.settingsDiffer = clientIds(
    files,
    `SELECT p.client_id FROM restored.partners p JOIN replaced.partners r ON r.client_id = p.client_id
      WHERE p.settings <> r.settings OR p.issuer <> r.issuer OR p.audience <> r.audience`,
  );
  report.partnersMissing = clientIds(
    files,
    "SELECT client_id FROM replaced.partners WHERE client_id NOT IN (SELECT client_id FROM restored.partners)",
  );
}

interface KeySources {
  readonly client_id: string;
  readonly jwks: string;
  readonly jwks_uri: string | null;
  readonly replaced_jwks: string;
  readonly replaced_jwks_uri: string | null;
}

/** A key, or a URL of keys, that the partner has given up since may be in other hands by now. */
function withdrawPartnerKeys(files: StoreFiles, report: Draft): void {
  const replacedUri = hasColumn(files, "partners", "jwks_uri") ? "r.jwks_uri" : "NULL";
  const changed = files.rows<KeySources>(
    `SELECT p.client_id, p.jwks, p.jwks_uri, r.jwks AS replaced_jwks, ${replacedUri} AS replaced_jwks_uri
      FROM restored.partners p JOIN replaced.partners r ON r.client_id = p.client_id
      WHERE p.jwks <> r.jwks OR p.jwks_uri IS NOT ${replacedUri}`,
  );
  for (const partner of changed) {
    const before = keysOf(partner.jwks);
    const still = new Set(keysOf(partner.replaced_jwks).map(keyMaterial));
    const kept = before.filter((key) => still.has(keyMaterial(key)));
    const uri = partner.jwks_uri === partner.replaced_jwks_uri ? partner.jwks_uri : null;
    if (kept.length === before.length && uri === partner.jwks_uri) continue;
    const jwks = JSON.stringify(uri === null ? { keys: kept } : null);
    files.rows("UPDATE restored.partners SET jwks = ?, jwks_uri = nullif(?, '') WHERE client_id = ?", jwks, uri ?? "", partner.client_id);
    report.partnerKeysRemoved += before.length - kept.length + (partner.jwks_uri === uri ? 0 : 1);
    if (uri === null && kept.length === 0) report.partnersWithoutKeys = [...report.partnersWithoutKeys, partner.client_id];
  }
}

type Jwk = Readonly<Record<string, unknown>>;

function keysOf(jwks: string): readonly Jwk[] {
  return (JSON.parse(jwks) as { readonly keys: readonly Jwk[] } | null)?.keys ?? [];
}

/** The same key under another name is the same key. */
function keyMaterial({ kty, crv, x, y, n, e }: Jwk): string {
  return JSON.stringify([kty, crv, x, y, n, e]);
}

/** Of partners that the replaced store knows: of the others it can say nothing. */
function removeSecrets(files: StoreFiles, report: Draft): void {
  report.secretsRemoved = files.rows(
    `DELETE FROM restored.partner_secrets WHERE partner_id IN (SELECT client_id FROM replaced.partners)
      AND (partner_id, secret_id) NOT IN (SELECT partner_id, secret_id FROM replaced.partner_secrets) RETURNING secret_id`,
  ).length;
}

/** Of partners that the replaced store knows: what it does not have of theirs has been erased, and its personal data must not come back. */
function withdrawAccounts(table: AccountTable, id: string): Step {
  return (files, report) => {
    const erased = files.rows(
      `DELETE FROM restored.${table} WHERE partner_id IN (SELECT client_id FROM replaced.partners)
        AND (partner_id, ${id}) NOT IN (SELECT partner_id, ${id} FROM replaced.${table}) RETURNING ${id}`,
    );
    report.erased = { ...report.erased, [table]: erased.length };
    const disabled = files.rows(
      `UPDATE restored.${table} SET status = 'disabled' WHERE status = 'active'
        AND (partner_id, ${id}) IN (SELECT partner_id, ${id} FROM replaced.${table} WHERE status = 'disabled') RETURNING ${id}`,
    );
    report.disabled = { ...report.disabled, [table]: disabled.length };
  };
}

/** Of partners that the replaced store knows: what its users have deleted since must not come back. */
function eraseThreads(files: StoreFiles): void {
  if (!hasColumn(files, "threads", "thread_id")) return;
  files.exec(
    `DELETE FROM restored.threads WHERE partner_id IN (SELECT client_id FROM replaced.partners)
      AND (partner_id, thread_id) NOT IN (SELECT partner_id, thread_id FROM replaced.threads WHERE user_id IS NOT NULL)`,
  );
}

/** A late repetition must not make anew what is erased: its key stays used. */
function forgetAnswersOfErased(files: StoreFiles): void {
  if (hasColumn(files, "idempotent_requests", "answer")) {
    const columns = "partner_id, request_key, fingerprint, answer, entity_id, expires_at";
    files.exec(
      `INSERT OR REPLACE INTO restored.idempotent_requests (${columns})
        SELECT ${columns} FROM replaced.idempotent_requests WHERE answer IS NULL AND entity_id IS NOT NULL`,
    );
  }
  files.exec(
    `UPDATE restored.idempotent_requests SET answer = NULL WHERE entity_id IS NOT NULL AND (partner_id, entity_id) NOT IN (
      SELECT partner_id, org_id FROM restored.organizations UNION ALL SELECT partner_id, workspace_id FROM restored.workspaces
      UNION ALL SELECT partner_id, user_id FROM restored.users)`,
  );
}

/**
 * A key that was dropped may have leaked: it must not sign or verify again. The server makes one where none is left. A store without a
 * key or partner in common was begun anew, and its list says nothing about these.
 */
function withdrawSigningKeys(files: StoreFiles, report: Draft): void {
  if (!isRelated(files)) return;
  const removed = files.rows("DELETE FROM restored.signing_keys WHERE kid NOT IN (SELECT kid FROM replaced.signing_keys) RETURNING kid");
  report.signingKeysRemoved = removed.length;
  files.exec("UPDATE restored.signing_keys SET state = 'retired'"); // all at once: one current key for an algorithm, whatever the order
  const columns = hasColumn(files, "signing_keys", "drop_after") ? "state, signs_from, drop_after" : "state";
  files.exec(`UPDATE restored.signing_keys AS k SET (${columns}) = (SELECT ${columns} FROM replaced.signing_keys r WHERE r.kid = k.kid)`);
  // the backup has the private half that was destroyed when the key was retired
  files.exec("UPDATE restored.signing_keys SET private_key_sealed = x'', sealing_key_id = '' WHERE state = 'retired'");
}

/** What is spent is from before the restore, and refused for that already; this holds where a clock was wrong, too. */
function keepSpent(files: StoreFiles): void {
  files.exec(
    "INSERT OR IGNORE INTO restored.spent_tokens (partner_id, spend_key, expires_at) SELECT partner_id, spend_key, expires_at FROM replaced.spent_tokens",
  );
}

/** What was revoked is from before the restore, and dead for that already; the feed goes on telling it to those who verify offline. */
function keepRevocations(files: StoreFiles): void {
  if (!hasColumn(files, "revocations", "kind")) return;
  const columns = "kind, subject_id, kid, partner_id, cut_off_at, revoked_at, expires_at";
  files.exec(`INSERT OR REPLACE INTO restored.revocations (${columns}) SELECT ${columns} FROM replaced.revocations`);
}

/** An API that the replaced store does not know has been removed, unless that store was begun anew. */
function removeResourceServerSecrets(files: StoreFiles, report: Draft): void {
  if (!hasColumn(files, "resource_server_secrets", "secret_id") || !isRelated(files)) return;
  report.secretsRemoved += files.rows(
    `DELETE FROM restored.resource_server_secrets WHERE (resource_server_id, secret_id) NOT IN
      (SELECT resource_server_id, secret_id FROM replaced.resource_server_secrets) RETURNING secret_id`,
  ).length;
}

/** Whether both have a key of ours or a partner in common: a store that was begun anew says nothing of what it does not have. */
function isRelated(files: StoreFiles): boolean {
  const common = files.rows(
    `SELECT 1 FROM restored.signing_keys WHERE kid IN (SELECT kid FROM replaced.signing_keys)
      UNION SELECT 1 FROM restored.partners WHERE client_id IN (SELECT client_id FROM replaced.partners)`,
  );
  return common.length > 0;
}

/** The replaced store may be of an earlier version: of its tables, only what the first migration made is there for sure. */
function hasColumn(files: StoreFiles, table: keyof Schema, column: string): boolean {
  return files.rows<{ name: string }>(`PRAGMA replaced.table_info(${table})`).some(({ name }) => name === column);
}

function clientIds(files: StoreFiles, sql: string): string[] {
  return files.rows<{ client_id: string }>(`${sql} ORDER BY 1`).map((row) => row.client_id);
}
