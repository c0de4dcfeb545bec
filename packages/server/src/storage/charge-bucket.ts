/** Between the clocks of two nodes. */
const CLOCK_AHEAD_MS_MAX = 5_000;

/**
 * Charges a partner's bucket, in one statement that both databases know: several nodes that charge at once queue at the row. A node whose clock is
 * behind adds nothing, and takes no time back; a moment far ahead was written by a clock that was wrong, and would stop the refill until it comes.
 * Parameters: partner, burst, used, now (milliseconds), refill per millisecond. Gives `level`. @param at the nth parameter, as the driver names it.
 */
export function chargeBucketSql(at: (n: number) => string): string {
  const [full, used, perMs] = [at(2), at(3), at(5)].map((number) => `CAST(${number} AS double precision)`);
  const now = `CAST(${at(4)} AS bigint)`;
  const known = "rate_limit_buckets.updated_at";
  const latest = `(CASE WHEN ${known} > ${now} + ${CLOCK_AHEAD_MS_MAX} THEN ${now} ELSE ${known} END)`;
  const passedMs = larger("0", `${now} - ${latest}`);
  const refilled = smaller(`${full}`, `rate_limit_buckets.level + ${passedMs} * ${perMs}`);
  return `INSERT INTO rate_limit_buckets (partner_id, level, updated_at) VALUES (${at(1)}, ${full} - ${used}, ${now})
    ON CONFLICT (partner_id) DO UPDATE SET level = ${larger(`-${full}`, `${refilled} - ${used}`)}, updated_at = ${larger(now, latest)}
    RETURNING level`;
}

/* Of two numbers, in words that both databases know. */

function smaller(left: string, right: string): string {
  return `(CASE WHEN ${left} < ${right} THEN ${left} ELSE ${right} END)`;
}

function larger(left: string, right: string): string {
  return `(CASE WHEN ${left} > ${right} THEN ${left} ELSE ${right} END)`;
}

export interface BucketCharge {
  readonly partnerId: string;
  readonly burst: number;
  readonly used: number;
  readonly nowMs: number;
  readonly perMs: number;
}

export function chargeParameters({ partnerId, burst, used, nowMs, perMs }: BucketCharge): (string | number)[] {
  return [partnerId, burst, used, nowMs, perMs];
}
