// The built server on the data folder of a sandbox, with an agent that does as the message tells it, and says in each chunk when it was made.
// The clock is the machine's monotonic one, which the loader reads too: microseconds.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { createApp } from "../packages/server/dist/app.js";
import { processEnvironment, readConfig, readDataDir } from "../packages/server/dist/config.js";
import { openDeps } from "../packages/server/dist/deps.js";
import { Overload } from "../packages/server/dist/http/overload.js";

/** An agent that has more to say lets others speak: as one does that reads from a network, where several words come at once. */
const CHUNKS_PER_TURN = 10;

const nowMicros = () => Number(process.hrtime.bigint() / 1000n);

/** The message is JSON: so many chunks of so many characters, one every so many milliseconds; 0: as fast as they are taken. */
async function* answer({ message }, signal) {
  const { chunks, everyMs, characters } = JSON.parse(message);
  const began = performance.now();
  for (let n = 0; n < chunks && !signal.aborted; n++) {
    if (everyMs > 0) await sleep(Math.max(0, began + n * everyMs - performance.now()));
    else if (n % CHUNKS_PER_TURN === 0) await nextTurn();
    yield { kind: "chunk", text: `${nowMicros()}|`.padEnd(characters, "x") };
  }
}

const environment = processEnvironment();
const dataDir = readDataDir(environment);
const kept = (name) => readFileSync(join(dataDir, name), "utf8").trim();
const config = readConfig("sandbox", {
  ...environment,
  CAMBIST_MASTER_KEY: kept("master-key"),
  CAMBIST_OPERATOR_TOKEN: kept("operator-token"),
});
const app = createApp(await openDeps(config, { agent: { answer }, overload: new Overload() }));
await app.start();
process.on("SIGTERM", () => void app.stop());
process.on("SIGUSR2", () => globalThis.gc?.()); // before its memory is read
