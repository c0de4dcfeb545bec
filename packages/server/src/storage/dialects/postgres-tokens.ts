import type { Pool, PoolClient } from "pg";
import { type ExchangeJob, type ExchangeVerdict, OPAQUE_COLUMNS, opaqueRow } from "../dialect.ts";
import type { OpaqueTokensTable } from "../schema.ts";

export async function findOpaqueToken(pool: Pool, hash: Uint8Array): Promise<OpaqueTokensTable | undefined> {
  const text = "SELECT * FROM opaque_tokens WHERE token_hash = $1";
  return (await pool.query<OpaqueTokensTable>({ name: "opaque_token", text, values: [hash] })).rows[0];
}

export async function isTokenRevoked(pool: Pool, tokenId: string): Promise<boolean> {
  const text = "SELECT 1 FROM revocations WHERE subject_id = $1 AND kind = 'token' AND kid = ''";
  return (await pool.query({ name: "token_revoked", text, values: [tokenId] })).rows.length > 0;
}

const TYPES = { token_hash: "bytea", issued_at: "bigint", expires_at: "bigint" } as const satisfies Partial<
  Record<(typeof OPAQUE_COLUMNS)[number], string>
>;
const PLACES = OPAQUE_COLUMNS.map((column, index) => `$${index + 1}::${(TYPES as Record<string, string>)[column] ?? "text"}[]`);
const KEEP_SQL = `INSERT INTO opaque_tokens (${OPAQUE_COLUMNS.join(", ")}) SELECT * FROM unnest(${PLACES.join(", ")})`;

/** Of the jobs that were issued an opaque token: in their transaction, and in one statement for all. */
export async function keepOpaqueTokens(connection: PoolClient, verdicts: ReadonlyMap<ExchangeJob, ExchangeVerdict>): Promise<void> {
  const rows = [...verdicts].flatMap(([job, verdict]) =>
    job.kind === "issue" && verdict.code === "issued" && job.request.opaque !== undefined ? [opaqueRow(job.request.opaque)] : [],
  );
  if (rows.length === 0) return;
  const values = OPAQUE_COLUMNS.map((_, column) => rows.map((row) => row[column]));
  await connection.query({ name: "issue_opaque", text: KEEP_SQL, values });
}
