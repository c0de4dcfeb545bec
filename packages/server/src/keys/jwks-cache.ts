import type { PartnerKey, PartnerKeySet } from "@cambist/protocol";
import type { FetchedJwks, PartnerJwksStore } from "../storage/store.ts";
import { afterFailure, afterSuccess, readJwks, vanishedKids } from "./fetched-keys.ts";
import { freshForMs } from "./freshness.ts";
import type { Outbound, OutboundFault } from "./outbound.ts";
import { verifiersOf } from "./signature.ts";

/** What a cache entry stands for: a partner's URL, and the state of its record in which the store was read last. */
export interface JwksOwner {
  readonly clientId: string;
  readonly version: number;
  readonly jwksUri: string;
}

export type JwksFaultCode = OutboundFault["code"] | "not_json" | "not_a_jwks" | "no_usable_key";

export interface JwksEvents {
  fetched(clientId: string, outcome: "fetched" | JwksFaultCode, sentence: string): void;
  /** Keys went, and none that was known took their place: see {@link vanishedKids}. */
  vanished(clientId: string, kids: readonly string[]): void;
  /** What was fetched serves here all the same. */
  notStored(clientId: string, error: unknown): void;
}

export interface JwksPorts {
  readonly store: PartnerJwksStore;
  readonly outbound: Outbound;
  readonly nowMs: () => number;
  readonly events: JwksEvents;
}

interface Entry {
  readonly jwksUri: string;
  version: number;
  jwks: FetchedJwks | undefined;
  keys: readonly PartnerKey[];
  /** Of the latest attempt, good or bad, of this node. */
  attemptedAtMs: number;
  /** When an unknown kid last made us ask. */
  askedForKidAtMs: number;
  fetching: Promise<void> | undefined;
}

const COOLDOWN_MS = 30_000;
const STALE_MS_MAX = 24 * 60 * 60 * 1000;
/** So long before its end a set is fetched anew in the background, so that nobody waits for it. */
const EARLY_PART = 0.2;
const ENTRIES_MAX = 10_000;

/**
 * The keys behind partners' URLs. A fresh set serves at once; an unknown kid asks the partner again, once in 30 s; when the partner's
 * host fails, the last good set serves for 24 hours, and is asked for again every 30 s in the background. What is fetched is kept in the
 * store, for the next start and for the other nodes: a set that changed moves the partner's version, and they read it anew.
 */
export class JwksCache {
  private readonly entries = new Map<string, Entry>();
  private readonly ports: JwksPorts;

  constructor(ports: JwksPorts) {
    this.ports = ports;
  }

  /** Without a wait where a fresh set has the key. */
  find(owner: JwksOwner, kid: string | undefined): PartnerKeySet | Promise<PartnerKeySet> {
    const entry = this.entries.get(owner.clientId);
    if (entry?.jwksUri === owner.jwksUri && entry.version === owner.version && isFresh(entry, this.ports.nowMs()) && hasKey(entry, kid)) {
      if (isNearlyStale(entry, this.ports.nowMs())) this.fetchInBackground(owner, entry);
      return found(entry);
    }
    return this.findSlowly(owner, kid);
  }

  async refresh(owner: JwksOwner): Promise<void> {
    const entry = await this.entryOf(owner);
    await entry.fetching; // one that began before the operator asked may have read what was there before
    await this.fetchShared(owner, entry);
  }

  private async findSlowly(owner: JwksOwner, kid: string | undefined): Promise<PartnerKeySet> {
    const askedAtMs = this.ports.nowMs();
    const entry = await this.entryOf(owner);
    await this.freshen(owner, entry);
    if (isUsable(entry, this.ports.nowMs()) && !hasKey(entry, kid)) await this.askForKid(owner, entry, kid, askedAtMs);
    const nowMs = this.ports.nowMs();
    if (isUsable(entry, nowMs)) return found(entry);
    const retryAfterMs = entry.attemptedAtMs + COOLDOWN_MS - nowMs;
    const failure = entry.jwks?.failure ?? "it has not answered yet";
    return {
      ok: false,
      fault: { code: "partner_keys_unavailable", failure, retryAfterSeconds: Math.max(1, Math.ceil(retryAfterMs / 1000)) },
    };
  }

  private async freshen(owner: JwksOwner, entry: Entry): Promise<void> {
    const nowMs = this.ports.nowMs();
    if (isFresh(entry, nowMs)) return;
    const isCoolingDown = hasFailed(entry) && nowMs - entry.attemptedAtMs < COOLDOWN_MS;
    if (hasFailed(entry) && isUsable(entry, nowMs)) this.fetchInBackground(owner, entry); // nobody waits for a host that is down
    else if (!isCoolingDown) await this.fetchShared(owner, entry);
    else await entry.fetching;
  }

  /** A fetch that is under way may bring the key. Only one that began before the token came may have begun before the key was there. */
  private async askForKid(owner: JwksOwner, entry: Entry, kid: string | undefined, askedAtMs: number): Promise<void> {
    await entry.fetching;
    if (hasKey(entry, kid) || entry.attemptedAtMs >= askedAtMs) return;
    if (this.ports.nowMs() - entry.askedForKidAtMs < COOLDOWN_MS) {
      await entry.fetching; // another's question, asked while we waited
      return;
    }
    entry.askedForKidAtMs = this.ports.nowMs();
    await this.fetchShared(owner, entry);
  }

  /** The entry as the store has it in this state of the partner's record. */
  private async entryOf(owner: JwksOwner): Promise<Entry> {
    const known = this.entries.get(owner.clientId);
    if (known?.jwksUri === owner.jwksUri && known.version === owner.version) return known;
    const stored = await this.ports.store.find(owner.clientId, owner.jwksUri);
    const entry = this.entries.get(owner.clientId);
    if (entry?.jwksUri === owner.jwksUri) {
      entry.version = owner.version;
      if ((stored?.fetchedAtMs ?? 0) > (entry.jwks?.fetchedAtMs ?? 0)) setJwks(entry, stored);
      return entry;
    }
    const fresh: Entry = {
      jwksUri: owner.jwksUri,
      version: owner.version,
      jwks: undefined,
      keys: [],
      attemptedAtMs: -Infinity,
      askedForKidAtMs: -Infinity,
      fetching: undefined,
    };
    setJwks(fresh, stored);
    if (this.entries.size >= ENTRIES_MAX) this.entries.delete(this.entries.keys().next().value as string);
    this.entries.set(owner.clientId, fresh);
    return fresh;
  }

  private fetchInBackground(owner: JwksOwner, entry: Entry): void {
    if (this.ports.nowMs() - entry.attemptedAtMs >= COOLDOWN_MS) void this.fetchShared(owner, entry);
  }

  /** One at a time for a partner: whoever asks meanwhile waits for the same. Never rejects. */
  private fetchShared(owner: JwksOwner, entry: Entry): Promise<void> {
    entry.fetching ??= this.fetchOnce(owner, entry).finally(() => {
      entry.fetching = undefined;
    });
    return entry.fetching;
  }

  private async fetchOnce({ clientId, jwksUri }: JwksOwner, entry: Entry): Promise<void> {
    const { outbound, nowMs, events } = this.ports;
    entry.attemptedAtMs = nowMs();
    const answer = await outbound.get(new URL(jwksUri));
    const intake = answer.ok ? readJwks(answer.value.body) : answer;
    const atMs = nowMs();
    events.fetched(clientId, intake.ok ? "fetched" : intake.fault.code, intake.ok ? "" : intake.fault.sentence);
    const outcome = { jwks: entry.jwks, vanished: [] as readonly string[] };
    const change = (before: FetchedJwks | undefined): FetchedJwks => {
      const freshUntilMs = atMs + (answer.ok ? freshForMs(answer.value.headers) : 0);
      const after = intake.ok ? afterSuccess(before, intake.value, atMs, freshUntilMs) : afterFailure(before, intake.fault.sentence, atMs);
      outcome.jwks = after;
      outcome.vanished = vanishedKids(before, after);
      return after;
    };
    try {
      if ((await this.ports.store.update(clientId, jwksUri, change)) === "outdated") return;
    } catch (thrown) {
      events.notStored(clientId, thrown);
      change(entry.jwks);
    }
    setJwks(entry, outcome.jwks);
    if (outcome.vanished.length > 0) events.vanished(clientId, outcome.vanished);
  }
}

function setJwks(entry: Entry, jwks: FetchedJwks | undefined): void {
  entry.jwks = jwks;
  const used = jwks?.keys.filter((key) => key.state === "used") ?? [];
  entry.keys = verifiersOf({ keys: used.map(({ jwk, kid, algorithm }) => ({ ...jwk, ...(kid === null ? {} : { kid }), alg: algorithm })) });
}

function isFresh({ jwks }: Entry, nowMs: number): boolean {
  return nowMs < (jwks?.freshUntilMs ?? -Infinity);
}

function isNearlyStale({ jwks }: Entry, nowMs: number): boolean {
  const { fetchedAtMs = 0, freshUntilMs = 0 } = jwks ?? {};
  return nowMs > freshUntilMs - (freshUntilMs - fetchedAtMs) * EARLY_PART;
}

function isUsable({ jwks }: Entry, nowMs: number): boolean {
  return jwks?.fetchedAtMs !== undefined && nowMs - jwks.fetchedAtMs < STALE_MS_MAX;
}

/** The latest attempt failed. */
function hasFailed({ jwks }: Entry): boolean {
  return (jwks?.failedAtMs ?? -Infinity) > (jwks?.fetchedAtMs ?? -Infinity);
}

function hasKey({ keys }: Entry, kid: string | undefined): boolean {
  return kid === undefined || keys.some((key) => key.kid === kid);
}

function found(entry: Entry): PartnerKeySet {
  return { ok: true, value: { keys: entry.keys, fetchFailure: hasFailed(entry) ? entry.jwks?.failure : undefined } };
}
