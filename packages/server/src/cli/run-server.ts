import { type App, createApp } from "../app.ts";
import type { Config } from "../config.ts";
import { type Deps, openDeps } from "../deps.ts";

const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;
/** Whatever hangs: the process is gone by then. */
const EXIT_MS_MAX = 10_000;

/** Runs until SIGTERM or SIGINT, then stops gracefully. */
export async function runServer(config: Config, afterStart?: (deps: Deps) => Promise<void>): Promise<void> {
  const deps = await openDeps(config);
  const app = createApp(deps);
  // a promise that an agent leaves behind must not end the process, and the answers of everybody else with it
  process.on("unhandledRejection", (error) => deps.log.error("a promise was rejected, and nobody listened", { error }));
  try {
    await listen(app, config);
    deps.log.info("listening", { host: config.host, port: config.port, public_url: config.publicUrl, mode: config.mode });
    stopOnSignal(app, deps);
    await afterStart?.(deps);
  } catch (thrown) {
    await app.stop();
    throw thrown;
  }
}

async function listen(app: App, config: Config): Promise<void> {
  try {
    await app.start();
  } catch (thrown) {
    const code = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
    if (code === "EADDRINUSE")
      throw new Error(`port ${config.port} is in use; choose another one: PORT=${config.port + 1}`, { cause: thrown });
    if (code === "EACCES") throw new Error(`port ${config.port} may not be opened by this user; choose one above 1023`, { cause: thrown });
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
      throw new Error(`HOST ${config.host} is not an address of this machine`, { cause: thrown });
    throw thrown;
  }
}

function stopOnSignal(app: App, { log }: Deps): void {
  let stopping = false;
  for (const signal of STOP_SIGNALS) {
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      log.info("stopping", { signal });
      setTimeout(() => process.exit(1), EXIT_MS_MAX).unref();
      app.stop().then(
        () => {
          log.info("stopped");
          process.exitCode = 0;
        },
        (error: unknown) => {
          log.error("stop failed", { error });
          process.exitCode = 1;
        },
      );
    });
  }
}
