import { join } from "node:path";
import { postgresDatabase } from "./accounts-database.ts";
import { Contender, root } from "./contender.ts";
import { median } from "./load.ts";
import { OpenLoop, type OpenLoopOutcome, type Supply } from "./open-loop.ts";
import { Operator } from "./partner.ts";
import { machine, table } from "./report.ts";
import { type BenchOptions, progress, runBench } from "./run-bench.ts";
import { Subjects } from "./subjects.ts";

const NUMBERS = {
  rounds: [6, "rounds: one with the noisy partner silent, one with it noisy, in turns"],
  seconds: [6, "length of a round"],
  quota: [6_000, "requests per minute that the noisy partner may send"],
  times: [10, "times its quota that it sends"],
  "calm-rate": [50, "exchanges per second of the calm partner"],
} as const;

type Options = BenchOptions<typeof NUMBERS>;

const USERS = 50;
const WARM_UP_SECONDS = 3;
const RATIO_MAX = 1.5;

interface Figures {
  readonly silent: readonly OpenLoopOutcome[];
  readonly noisy: readonly OpenLoopOutcome[];
  /** Of the noisy partner itself. */
  readonly noise: readonly OpenLoopOutcome[];
}

async function partnerOf(contender: Contender, operator: Operator, name: string) {
  const { port } = contender.command;
  const { clientId, folder } = await operator.createPartner(name);
  const subjects = new Subjects(port, folder);
  await subjects.createUsers(USERS);
  return { clientId, subjects };
}

/** What is refused for the quota is not looked at, so its token can be sent again. */
function supplyOf(requests: Buffer[]): Supply {
  return { take: () => requests.pop(), giveBack: (request) => void requests.unshift(request) };
}

async function bench(options: Options, folder: string, databaseUrl: string | undefined): Promise<Figures> {
  const { rounds, seconds, quota, times } = options.numbers;
  const calmRate = options.numbers["calm-rate"];
  const contender = await Contender.exchange("exchange", root, folder, { cpuProfile: options.cpuProfile, databaseUrl });
  const { port, readyPath } = contender.command;
  const operator = new Operator(port, contender.dataDir);
  const noisyPartner = await partnerOf(contender, operator, "Noisy");
  const calmPartner = await partnerOf(contender, operator, "Calm");
  await operator.updatePartner(noisyPartner.clientId, { rate_limits: { requests_per_minute: quota, burst: Math.ceil(quota / 60) } });
  const noiseRate = (quota / 60) * times;
  const granted = Math.ceil((quota / 60) * (seconds + 1)) * (rounds + 1) * 2 + 200;
  const noise = supplyOf(await noisyPartner.subjects.requests(granted, progress));
  // all is signed beforehand: a loader that signs is late, and then sends its noise in bursts
  const calm = supplyOf(await calmPartner.subjects.requests(calmRate * (2 * seconds * rounds + WARM_UP_SECONDS), progress));
  /** On connections of its own: over all rounds, one that nobody needs would be closed as idle. */
  const run = async (connections: number, supply: Supply, rate: number, length: number) => {
    const loop = await OpenLoop.open(port, connections, readyPath);
    const outcome = await loop.run(supply, rate, length);
    loop.close();
    return outcome;
  };
  const calmRun = (length: number) => run(32, calm, calmRate, length);
  const both = (length: number) => Promise.all([calmRun(length), run(128, noise, noiseRate, length)]);
  await both(WARM_UP_SECONDS);
  const figures = { silent: [] as OpenLoopOutcome[], noisy: [] as OpenLoopOutcome[], noise: [] as OpenLoopOutcome[] };
  const silent = async () => void figures.silent.push(await calmRun(seconds));
  const noisy = async () => {
    const [calmOutcome, noiseOutcome] = await both(seconds);
    figures.noisy.push(calmOutcome);
    figures.noise.push(noiseOutcome);
  };
  for (let n = 0; n < rounds; n++) {
    progress(`round ${n + 1} of ${rounds}`);
    for (const turn of n % 2 === 0 ? [silent, noisy] : [noisy, silent]) await turn();
  }
  await contender.stop();
  return figures;
}

const p99Of = (outcomes: readonly OpenLoopOutcome[]) => median(outcomes.map(({ accepted }) => accepted.sinceDue.p99Ms));
const ratioOf = ({ silent, noisy }: Figures) => p99Of(noisy) / p99Of(silent);

function renderTables(figures: Figures): string {
  const row = (name: string, outcomes: readonly OpenLoopOutcome[]) => [
    name,
    median(outcomes.map(({ accepted }) => accepted.sinceDue.p50Ms)).toFixed(2),
    p99Of(outcomes).toFixed(2),
    outcomes.map(({ accepted }) => accepted.sinceDue.p99Ms.toFixed(1)).join(", "),
    `${(100 * median(outcomes.map(({ refused }) => refused.share))).toFixed(0)} %`,
  ];
  const ratio = ratioOf(figures);
  const rows = [
    ["medians of the rounds", "p50 ms", "p99 ms of what is granted", "of each round", "refused"],
    row("calm partner, the other silent", figures.silent),
    row("calm partner, the other noisy", figures.noisy),
    row("noisy partner", figures.noise),
  ];
  const verdict = `The calm partner's p99 is ${ratio.toFixed(2)} times its calm value (≤ ${RATIO_MAX}: ${ratio <= RATIO_MAX ? "met" : "MISSED"}).`;
  return `${machine()}\n\n${table(rows)}\n\n${verdict}\n`;
}

/** Whether a partner that sends far more than its quota is felt by another. What is measured and how: README.md. */
await runBench("bench:neighbour", NUMBERS, async (options, folder) => {
  const database = options.database === "postgres" ? await postgresDatabase(join(folder, "postgres")) : undefined;
  const figures = await bench(options, folder, database?.environment["DATABASE_URL"]);
  await database?.stop();
  const calm = [...figures.silent, ...figures.noisy];
  const sample = [...calm, ...figures.noise].find((outcome) => outcome.sample !== undefined)?.sample;
  if (sample !== undefined) progress(`an answer that should not be:\n${sample}`);
  const refused = calm.reduce((sum, outcome) => sum + outcome.refused.count, 0);
  if (refused > 0) progress(`the calm partner was refused ${refused} times`);
  const text = options.json ? `${JSON.stringify({ options, ratio: ratioOf(figures), ...figures }, null, 2)}\n` : renderTables(figures);
  return { text, exitCode: sample === undefined && refused === 0 ? 0 : 1 };
});
