import { type RawBuilder, sql } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { RateLimitStore } from "../store.ts";

const MINUTE_MS = 60_000;

export function rateLimitStore(dialect: Dialect): RateLimitStore {
  return {
    /** One statement: several nodes that charge at once queue at the row. A node whose clock is behind adds nothing, and takes no time back. */
    charge: (partnerId, used, { requestsPerMinute, burst }, nowMs) =>
      dialect.write(async (db) => {
        const perMs = sql`CAST(${requestsPerMinute / MINUTE_MS} AS double precision)`;
        const now = sql`CAST(${nowMs} AS bigint)`;
        const passedMs = larger(sql`0`, sql`${now} - rate_limit_buckets.updated_at`);
        const full = sql`CAST(${burst} AS double precision)`;
        const refilled = smaller(full, sql`rate_limit_buckets.level + ${passedMs} * ${perMs}`);
        const { rows } = await sql<{ level: number }>`INSERT INTO rate_limit_buckets (partner_id, level, updated_at)
          VALUES (${partnerId}, ${full} - CAST(${used} AS double precision), ${now})
          ON CONFLICT (partner_id) DO UPDATE SET
            level = ${larger(sql`-${full}`, sql`${refilled} - CAST(${used} AS double precision)`)},
            updated_at = ${larger(now, sql`rate_limit_buckets.updated_at`)}
          RETURNING level`.execute(db);
        return rows[0]?.level ?? 0;
      }),
  };
}

/* Of two numbers, in words that both databases know. */

function smaller(left: RawBuilder<unknown>, right: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`(CASE WHEN ${left} < ${right} THEN ${left} ELSE ${right} END)`;
}

function larger(left: RawBuilder<unknown>, right: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`(CASE WHEN ${left} > ${right} THEN ${left} ELSE ${right} END)`;
}
