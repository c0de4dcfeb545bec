import type { Config } from "./config.ts";
import { prepareDatabaseFile } from "./data-dir.ts";
import { type Keyring, openKeyring } from "./keys/keyring.ts";
import { MasterKeys } from "./keys/master-key.ts";
import { Outbound, type OutboundOptions } from "./keys/outbound.ts";
import type { JwksEvents } from "./keys/jwks-cache.ts";
import { PartnerKeys } from "./keys/partner-keys.ts";
import { openStore } from "./storage/kysely-store.ts";
import type { Store } from "./storage/store.ts";
import { type Log, openLog } from "./telemetry/log.ts";
import { type Metrics, openMetrics } from "./telemetry/metrics.ts";

/** Everything that the server is made of. Built here and nowhere else. */
export interface Deps {
  readonly config: Config;
  readonly store: Store;
  readonly masterKeys: MasterKeys;
  readonly keyring: Keyring;
  readonly outbound: Outbound;
  readonly partnerKeys: PartnerKeys;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly nowMs: () => number;
}

/** What a test puts in place of the machine's own. */
export interface DepsOverrides extends Partial<Pick<Deps, "log" | "nowMs">> {
  readonly network?: Pick<OutboundOptions, "resolve" | "ca">;
}

export async function openDeps(config: Config, overrides: DepsOverrides = {}): Promise<Deps> {
  const log = overrides.log ?? openLog(config.logLevel);
  const nowMs = overrides.nowMs ?? Date.now;
  const masterKeys = new MasterKeys(config.masterKeys);
  const store = await openConfiguredStore(config, log);
  try {
    const keyring = await openKeyring(store.signingKeys, masterKeys, config.signingAlgorithm, nowMs());
    const metrics = openMetrics();
    const outbound = new Outbound({ ...overrides.network, allowHosts: config.jwksAllowHosts });
    const partnerKeys = new PartnerKeys({ store: store.partnerJwks, outbound, nowMs, events: jwksEvents(log, metrics) });
    return { config, store, masterKeys, keyring, outbound, partnerKeys, log, metrics, nowMs };
  } catch (thrown) {
    await store.close();
    throw thrown;
  }
}

/** The URL stays out of the log: it may hold a key of its own. */
function jwksEvents(log: Log, metrics: Metrics): JwksEvents {
  return {
    fetched(clientId, outcome, sentence) {
      metrics.countJwksFetch(outcome);
      if (outcome === "fetched") log.debug("partner keys fetched", { client_id: clientId });
      else log.warn("partner keys cannot be fetched", { client_id: clientId, outcome, failure: sentence });
    },
    vanished(clientId, kids) {
      metrics.countKeysVanished();
      log.warn("partner keys vanished without overlap", { client_id: clientId, kids: kids.join(" ") });
    },
    notStored: (clientId, error) => log.warn("partner keys cannot be stored", { client_id: clientId, error }),
  };
}

async function openConfiguredStore(config: Config, log: Log): Promise<Store> {
  const onIdleError = (error: Error) => log.warn("database connection lost", { error });
  if (config.databaseUrl !== undefined) return openStore({ postgresUrl: config.databaseUrl }, onIdleError);
  return openStore({ sqlitePath: prepareDatabaseFile(config.dataDir) }, onIdleError);
}
