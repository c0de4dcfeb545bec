import type { Partner } from "../storage/store.ts";
import type { TestDatabase } from "./database.ts";
import { NOW } from "./store.ts";

/** As long as ours are. External ids are shorter, and the index of these may look cheaper for a whole partner than ours for one row. */
const longName = (kind: string) => kind.padEnd(32, "-");
export const idOf = (kind: string, n: number) => `${longName(kind)}${n}`;
export const org = (n: number) => idOf("org", n);
export const ws = (n: number) => idOf("ws", n);
export const user = (n: number) => idOf("user", n);

const ORGANIZATIONS = 2_000;
const WORKSPACES = 20_000;
export const USERS = 40_000;
/** In the first workspace. */
export const CROWD = 12_000;
const SMALL_PARTNERS = 1_000;
/** Of each kind, over all small partners. */
const SMALL = 5_000;
const OTHERS = 12_000;

/**
 * Two partners with so many rows that a scan of any of these tables costs more than its index, and as it is in life many with a few: a planner
 * that goes by the average takes a partner to be small. External ids are `xorg-1` and so on.
 */
export async function fillWithAccounts(database: TestDatabase, partners: readonly Partner[]): Promise<void> {
  const into = (table: string, columns: string, count: number, values: string, from = "n") =>
    database.query(`INSERT INTO ${table} (${columns})
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) SELECT ${values} FROM ${from}`);
  const isSqlite = "sqlitePath" in database.location;
  const bytes = (text: string) => (isSqlite ? `CAST(${text} AS blob)` : `convert_to(${text}, 'UTF8')`);

  const [first = "", second = ""] = partners.map(({ clientId }) => clientId);
  /** The rows of one lie together, as after an import; the partners are in no order. */
  const small = (each: number) => `'${longName("prt")}' || (1 + (i - 1) / ${each} * 7919 % ${SMALL_PARTNERS})`;
  const columns = "name, status, version, audience, jwks, settings, created_at, updated_at";
  const ofFirst = `n, partners WHERE client_id = '${first}'`;
  await into("partners", `client_id, issuer, ${columns}`, SMALL_PARTNERS, `${small(1)}, 'issuer-' || i, ${columns}`, ofFirst);
  const secret = "secret_id, secret_hash, pepper_id, created_at";
  await into(
    "partner_secrets",
    `partner_id, ${secret}`,
    SMALL_PARTNERS,
    `${small(1)}, ${secret}`,
    `n, partner_secrets WHERE partner_id = '${first}'`,
  );
  await into("provisioning_quotas", "partner_id, hour, used", SMALL_PARTNERS, `${small(1)}, 1, 1`);

  const accounts = async (partner: string, counts: readonly number[], workspace: string, ofWorkspace: (n: string) => string) => {
    const common = "entitlements, status, revision, created_at, updated_at";
    const rest = `'[]', 'active', 'r' || i, ${NOW}, ${NOW}`;
    const [organizations = 0, workspaces = 0, users = 0] = counts;
    const ids = (kind: string) => `${partner}, '${longName(kind)}' || i, 'x${kind}-' || i`;
    await into("organizations", `partner_id, org_id, external_org_id, ${common}`, organizations, `${ids("org")}, ${rest}`);
    const ofOrg = `partner_id, workspace_id, external_workspace_id, org_id, ${common}`;
    await into("workspaces", ofOrg, workspaces, `${ids("ws")}, ${ofWorkspace("i")}, ${rest}`);
    const ofBoth = `partner_id, user_id, external_user_id, workspace_id, org_id, ${common}`;
    await into("users", ofBoth, users, `${ids("user")}, '${longName("ws")}' || ${workspace}, ${ofWorkspace(workspace)}, ${rest}`);
  };
  await accounts(small(SMALL / SMALL_PARTNERS), [SMALL, SMALL, SMALL], "i", (n) => `'${longName("org")}' || ${n}`);
  for (const partner of [`'${first}'`, `'${second}'`]) {
    const workspace = `(CASE WHEN i <= ${CROWD} THEN 1 ELSE 1 + i % ${WORKSPACES} END)`;
    await accounts(
      partner,
      [ORGANIZATIONS, WORKSPACES, USERS],
      workspace,
      (n) => `'${longName("org")}' || (1 + (${n} - 1) % ${ORGANIZATIONS})`,
    );
    const expires = `${NOW} + i`;
    await into("spent_tokens", "partner_id, spend_key, expires_at", OTHERS, `${partner}, ${bytes("'k' || i")}, ${expires}`);
    const answer = `${partner}, ${bytes("'k' || i")}, ${bytes("'f' || i")}, '{}', '${longName("user")}' || i, ${expires}`;
    await into("idempotent_requests", "partner_id, request_key, fingerprint, answer, entity_id, expires_at", OTHERS, answer);
  }
  if (!isSqlite) await database.query("ANALYZE");
}
