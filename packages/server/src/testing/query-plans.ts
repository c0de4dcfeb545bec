import { Client } from "pg";
import { vi } from "vitest";
import type * as SqliteDriver from "../storage/dialects/sqlite-driver.ts";
import type { DialectName, TestDatabase } from "./database.ts";
import type { TestStore } from "./store.ts";

/** A statement as a store has sent it to its driver, and what was bound to it. */
export interface Sent {
  readonly sql: string;
  readonly values: readonly unknown[];
  /** PostgreSQL comes to plan it once for whatever is bound to it. */
  readonly prepared: boolean;
}

/** What was sent, by whichever driver. */
export interface Wire {
  sent: Sent[];
}

/** For `vi.mock` of the driver. */
export function observedSqlite(driver: typeof SqliteDriver, wire: Wire): typeof SqliteDriver {
  return {
    ...driver,
    async openSqlite(path: string) {
      const database = await driver.openSqlite(path);
      const prepare = database.prepare.bind(database);
      const observed = (sql: string) => {
        const statement = prepare(sql);
        for (const name of ["all", "get", "run", "iterate"] as const) {
          const run = statement[name].bind(statement) as (...values: unknown[]) => unknown;
          const value = (...values: unknown[]) => {
            wire.sent.push({ sql, values, prepared: true });
            return run(...values);
          };
          Object.defineProperty(statement, name, { value });
        }
        return statement;
      };
      Object.defineProperty(database, "prepare", { value: observed });
      return database;
    },
  };
}

/** With the driver that is mocked from now on, and for no other test file of this process. */
export async function openObserved(dialect: DialectName, wire: Wire): Promise<TestStore> {
  if (dialect === "postgres") observePostgres(wire);
  vi.resetModules();
  const { openTestStore } = await import("./store.ts");
  return openTestStore(dialect);
}

function observePostgres(wire: Wire): void {
  const query = Reflect.get(Client.prototype, "query") as (...args: unknown[]) => unknown;
  vi.spyOn(Client.prototype, "query").mockImplementation(function (this: Client, ...args: unknown[]) {
    const [first, second] = args as [string | { readonly text?: unknown; readonly values?: unknown[]; readonly name?: string }, unknown];
    const given = typeof first === "string" ? { text: first } : first;
    const prepared = "name" in given && given.name !== undefined;
    const values = given.values ?? (Array.isArray(second) ? second : []);
    if (typeof given.text === "string") wire.sent.push({ sql: given.text, values, prepared });
    return query.apply(this, args);
  });
}

/** What was sent meanwhile and has a plan, each text once. */
export async function sentDuring(wire: Wire, work: () => Promise<unknown>): Promise<Sent[]> {
  wire.sent = [];
  await work();
  const planned = wire.sent.filter(({ sql }) => /^\s*(?:select|insert|update|delete|with)\b/i.test(sql));
  return [...new Map(planned.map((one) => [one.sql, one])).values()];
}

/** A partner has one quota, so its key is the partner alone; and PostgreSQL sooner reads a few thousand of such rows as a whole. */
const ONE_ROW_EACH = "provisioning_quotas";
export const WHOLE_PARTNER = "reads all that the partner has";

/**
 * An index that begins with the partner must be searched by more than the partner. Some begin otherwise: with a partner's own id, or with the
 * time at which a row may go, or somebody else may have it.
 */
function breadth(equal: readonly string[], condition: string): string[] {
  const narrow =
    equal.includes("client_id") ||
    (equal.includes("partner_id") && equal.length > 1) ||
    /\b(?:expires_at|lease_until) ?[<=>]/.test(condition);
  return narrow || condition.includes(ONE_ROW_EACH) ? [] : [`${WHOLE_PARTNER}: ${condition}`];
}

/** Such as `SEARCH users USING INDEX users_org_id (partner_id=? AND org_id=? AND user_id>?)`. */
function sqliteFaults(detail: string): string[] {
  if (/^SCAN (?!CONSTANT ROW)|^USE TEMP B-TREE/.test(detail)) return [detail];
  return detail.startsWith("SEARCH ")
    ? breadth(
        [...detail.matchAll(/(\w+)=\?/g)].map(([, column = ""]) => column),
        detail,
      )
    : [];
}

interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly "Plan Rows": number;
  readonly Plans?: readonly PlanNode[];
}

/** What a purge takes at once: no statement returns or deletes more rows, so none need sort more. */
const SORTED_MAX = 1_000;

function postgresFaults(node: PlanNode): string[] {
  const what = [node["Node Type"], node["Relation Name"], node["Index Name"]].join(" ");
  const faults = (node.Plans ?? []).flatMap(postgresFaults);
  if (what.startsWith("Seq Scan") && node["Relation Name"] !== ONE_ROW_EACH) faults.push(what);
  if (/Sort/.test(what) && node["Plan Rows"] > SORTED_MAX) faults.push(`${what} of ${node["Plan Rows"]} rows`);
  if (!/Index/.test(what)) return faults;
  const condition = (node["Index Cond"] ?? "").replaceAll(/'[^']*'/g, "''");
  const equal = [...condition.matchAll(/\b(\w+) = /g)].map(([, column = ""]) => column);
  return [...faults, ...breadth(equal, `${what} ${condition}`)];
}

/** What the plans of these statements do that takes the longer, the more accounts there are; each with its statement. */
export async function faultsOf(database: TestDatabase, statements: readonly Sent[]): Promise<string[]> {
  const found: string[] = [];
  for (const { sql, values, prepared } of statements) {
    const faults: string[] = [];
    if ("sqlitePath" in database.location) {
      faults.push(...(await database.query(`EXPLAIN QUERY PLAN ${sql}`)).flatMap((row) => sqliteFaults(String(row["detail"]))));
    } else {
      const own = await database.query(`EXPLAIN (FORMAT JSON) ${sql}`, values as never);
      const generic = prepared ? await database.query(`EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${sql}`) : [];
      for (const row of [...own, ...generic]) faults.push(...postgresFaults((row["QUERY PLAN"] as [{ Plan: PlanNode }])[0].Plan));
    }
    found.push(...faults.map((fault) => `${fault} | ${sql.replaceAll(/\s+/g, " ")}`));
  }
  return found;
}
