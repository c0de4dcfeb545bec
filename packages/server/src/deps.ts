import type { Agent } from "./agents/agent.ts";
import { demoAgent } from "./agents/demo.ts";
import type { Config } from "./config.ts";
import { prepareDatabaseFile } from "./data-dir.ts";
import { type LiveTokens, liveTokens } from "./http/live-token.ts";
import { Overload } from "./http/overload.ts";
import { Quotas } from "./http/quotas.ts";
import { WrongSecrets } from "./http/wrong-secrets.ts";
import { shownClientId } from "./ids.ts";
import { type Keyring, type KeyringEvents, openKeyring } from "./keys/keyring.ts";
import { MasterKeys } from "./keys/master-key.ts";
import { Outbound, type OutboundOptions } from "./keys/outbound.ts";
import type { JwksEvents } from "./keys/jwks-cache.ts";
import { PartnerKeys } from "./keys/partner-keys.ts";
import { ScopeCatalog } from "./oauth/scope-catalog.ts";
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
  /** The resource identifier of our own API: the `aud` of the tokens that open it, never the issuer (contract §1). */
  readonly resource: string;
  readonly scopes: ScopeCatalog;
  readonly liveTokens: LiveTokens;
  readonly quotas: Quotas;
  readonly wrongSecrets: WrongSecrets;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly overload: Overload;
  readonly agent: Agent;
  readonly nowMs: () => number;
}

/** What a test puts in place of the machine's own. */
export interface DepsOverrides extends Partial<Pick<Deps, "agent" | "log" | "nowMs" | "overload" | "wrongSecrets">> {
  readonly network?: Pick<OutboundOptions, "resolve" | "ca">;
}

/** With overrides, the process and its event loop are not the server's alone: nobody is turned away unless `overload` is among them. */
export async function openDeps(config: Config, testOverrides?: DepsOverrides): Promise<Deps> {
  const overrides: DepsOverrides = testOverrides ?? { overload: new Overload() };
  const log = overrides.log ?? openLog(config.logLevel);
  const nowMs = overrides.nowMs ?? Date.now;
  const masterKeys = new MasterKeys(config.masterKeys);
  const store = await openConfiguredStore(config, log);
  try {
    const { signingAlgorithm: algorithm, signingKeyDays } = config;
    const events = keyringEvents(log);
    const keyring = await openKeyring({ store: store.signingKeys, masterKeys, algorithm, signingKeyDays, nowMs, events });
    const metrics = openMetrics();
    const outbound = new Outbound({ ...overrides.network, allowHosts: config.jwksAllowHosts });
    const partnerKeys = new PartnerKeys({ store: store.partnerJwks, outbound, nowMs, events: jwksEvents(log, metrics) });
    const resource = `${config.publicUrl}/v2`;
    const scopes = new ScopeCatalog({ store: store.resourceServers, resource, nowMs });
    const overload = overrides.overload ?? new Overload({ sheds: false });
    const live = liveTokens({
      issuer: config.publicUrl,
      partners: store.partners,
      accounts: store.accounts,
      tokens: store.tokens,
      hashesOf: (token) => masterKeys.hashesOf(token),
      keys: {
        findKey: (kid) => keyring.findKey(kid),
        generation: () => keyring.generation(),
        refreshForKid: (kid) => overload.aside(keyring.refreshForKid(kid)), // whoever forges kids must not keep others out
      },
      nowMs,
      restoredAtSeconds: store.restoredAtSeconds,
    });
    const built = { config, store, masterKeys, keyring, outbound, partnerKeys, resource, scopes, liveTokens: live, log, metrics, nowMs };
    return { ...built, ...limits(built, overrides), overload, agent: overrides.agent ?? demoAgent() };
  } catch (thrown) {
    await store.close();
    throw thrown;
  }
}

function limits(
  { store, log, nowMs }: Pick<Deps, "store" | "log" | "nowMs">,
  { wrongSecrets }: DepsOverrides,
): Pick<Deps, "quotas" | "wrongSecrets"> {
  const onAway = (error: unknown) => log.warn("the store does not count for the rate limits; this node counts alone meanwhile", { error });
  const onUsedUp = (clientId: string, address: string) =>
    log.warn("too many wrong secrets; refused from this address for now", { client_id: shownClientId(clientId), address });
  const quotas = new Quotas({ store: store.rateLimits, nowMs, onAway });
  return { quotas, wrongSecrets: wrongSecrets ?? new WrongSecrets({ nowMs, onUsedUp }) };
}

function keyringEvents(log: Log): KeyringEvents {
  return {
    scheduled: (kid, atMs) => log.info("signing key switch scheduled", { kid, at: new Date(atMs).toISOString() }),
    switched: ({ from, former }) => log.info("signing key switched", { from, dropped: former === "drop" }),
    readFailed: (error) => log.warn("signing keys cannot be read or kept up; the last ones serve on", { error }),
    notOpened: (kid) => log.error("CAMBIST_MASTER_KEY does not open a signing key; this node cannot sign with it", { kid }),
  };
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
