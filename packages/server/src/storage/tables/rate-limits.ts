import { type RawBuilder, sql } from "kysely";
import type { Dialect } from "../dialect.ts";
import type { RateLimitStore } from "../store.ts";

const MINUTE_MS = 60_000;
/** Between the clocks of two nodes. */
const CLOCK_AHEAD_MS_MAX = 5_000;

export function rateLimitStore(dialect: Dialect): RateLimitStore {
  return {
    /** One statement: several nodes that charge at once queue at the row. A node whose clock is behind adds nothing, and takes no time back. */
    charge: (partnerId, used, { requestsPerMinute, burst }, nowMs) =>
      dialect.write(async (db) => {
        const perMs = sql`CAST(${requestsPerMinute / MINUTE_MS} AS double precision)`;
        const now = sql`CAST(${nowMs} AS bigint)`;
        // a moment this far ahead was written by a clock that was wrong, and would stop the refill until it comes
        const known = sql`rate_limit_buckets.updated_at`;
        const latest = sql`(CASE WHEN ${known} > ${now} + ${sql.lit(CLOCK_AHEAD_MS_MAX)} THEN ${now} ELSE ${known} END)`;
        const passedMs = larger(sql`0`, sql`${now} - ${latest}`);
        const full = sql`CAST(${burst} AS double precision)`;
        const refilled = smaller(full, sql`rate_limit_buckets.level + ${passedMs} * ${perMs}`);
        const { rows } = await sql<{ level: number }>`INSERT INTO rate_limit_buckets (partner_id, level, updated_at)
          VALUES (${partnerId}, ${full} - CAST(${used} AS double precision), ${now})
          ON CONFLICT (partner_id) DO UPDATE SET
            level = ${larger(sql`-${full}`, sql`${refilled} - CAST(${used} AS double precision)`)},
            updated_at = ${larger(now, latest)}
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
