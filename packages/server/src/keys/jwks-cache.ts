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
  fetchesBegun: number;
  fetching: Promise<void> | undefined;
}

const COOLDOWN_MS = 30_000;
/** A host that failed this long ago may be well again: that is worth a wait. */
const FAILURE_RECENT_MS = 2 * COOLDOWN_MS;
const STALE_MS_MAX = 24 * 60 * 60 * 1000;
/** So long before its end a set is fetched anew in the background, so that nobody waits for it. */
const EARLY_PART = 0.2;
/** Between the clocks of two nodes. A time further ahead was written by a clock that was wrong. */
const CLOCK_AHEAD_MS_MAX = 5_000;
const ENTRIES_MAX = 10_000;

/**
 * The keys behind partners' URLs. A fresh set serves at once; an unknown kid asks the partner again, once in 30 s; when the partner's
 * host fails, the last good set serves for 24 hours, and is asked for again every 30 s. What is fetched is kept in the store, for the
 * next start and for the other nodes: a set that changed moves the partner's version, and they read it anew.
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
    if (entry?.jwksUri === owner.jwksUri && entry.version === owner.version && this.isFresh(entry) && hasKey(entry, kid)) {
      if (this.isNearlyStale(entry)) this.fetchInBackground(owner, entry);
      return found(entry);
    }
    return this.findSlowly(owner, kid);
  }

  /** Also takes a set without a usable key: whoever asks for it wants what is gone to be gone. */
  async refresh(owner: JwksOwner): Promise<void> {
    const entry = await this.entryOf(owner);
    while (entry.fetching !== undefined) await entry.fetching; // it may have begun before the partner changed its keys
    await this.fetchShared(owner, entry, true);
  }

  private async findSlowly(owner: JwksOwner, kid: string | undefined): Promise<PartnerKeySet> {
    const begunBefore = this.entries.get(owner.clientId)?.fetchesBegun ?? 0;
    const entry = await this.entryOf(owner);
    await this.freshen(owner, entry);
    if (this.isUsable(entry) && !hasKey(entry, kid)) await this.askForKid(owner, entry, kid, begunBefore);
    if (this.isUsable(entry)) return found(entry);
    const restMs = hasFailed(entry) ? COOLDOWN_MS - this.sinceMs(entry.attemptedAtMs) : 0;
    const failure = entry.jwks?.failure ?? "its URL has just been changed";
    return { ok: false, fault: { code: "partner_keys_unavailable", failure, retryAfterSeconds: Math.max(1, Math.ceil(restMs / 1000)) } };
  }

  private async freshen(owner: JwksOwner, entry: Entry): Promise<void> {
    if (this.isFresh(entry)) return;
    const failedBeforeMs = hasFailed(entry) ? this.sinceMs(entry.attemptedAtMs) : Infinity;
    if (this.isUsable(entry) && failedBeforeMs < FAILURE_RECENT_MS) this.fetchInBackground(owner, entry); // nobody waits for it
    else if (failedBeforeMs < COOLDOWN_MS) await entry.fetching;
    else await this.fetchShared(owner, entry);
  }

  /** A fetch that is under way may bring the key. Only one that began before the token came may have begun before the key was there. */
  private async askForKid(owner: JwksOwner, entry: Entry, kid: string | undefined, begunBefore: number): Promise<void> {
    await entry.fetching;
    if (hasKey(entry, kid)) return;
    const isAsked = entry.fetchesBegun > begunBefore || this.sinceMs(entry.askedForKidAtMs) < COOLDOWN_MS;
    if (isAsked || (hasFailed(entry) && this.sinceMs(entry.attemptedAtMs) < COOLDOWN_MS)) {
      await entry.fetching; // another's question, asked while we waited
      return;
    }
    entry.askedForKidAtMs = this.ports.nowMs();
    await this.fetchShared(owner, entry);
  }

  /** The entry as the store has it in this state of the partner's record. */
  private async entryOf(owner: JwksOwner): Promise<Entry> {
    const known = this.entries.get(owner.clientId);
    if (known !== undefined && isUpToDate(known, owner)) return known;
    const stored = await this.ports.store.find(owner.clientId, owner.jwksUri);
    const current = this.entries.get(owner.clientId);
    if (current !== undefined && isUpToDate(current, owner)) return current;
    const entry = current?.jwksUri === owner.jwksUri ? current : newEntry(owner.jwksUri);
    entry.version = owner.version;
    if (stored !== undefined) setJwks(entry, stored); // whatever the times in it: they may be of another node's clock
    if (!this.entries.has(owner.clientId) && this.entries.size >= ENTRIES_MAX) {
      this.entries.delete(this.entries.keys().next().value as string);
    }
    this.entries.set(owner.clientId, entry);
    return entry;
  }

  private fetchInBackground(owner: JwksOwner, entry: Entry): void {
    if (this.sinceMs(entry.attemptedAtMs) < COOLDOWN_MS) return;
    this.fetchShared(owner, entry).catch((error: unknown) => this.ports.events.notStored(owner.clientId, error));
  }

  /** One at a time for a partner: whoever asks meanwhile waits for the same. */
  private fetchShared(owner: JwksOwner, entry: Entry, mayBeEmpty = false): Promise<void> {
    entry.fetching ??= this.fetchOnce(owner, entry, mayBeEmpty).finally(() => {
      entry.fetching = undefined;
    });
    return entry.fetching;
  }

  private async fetchOnce({ clientId, jwksUri }: JwksOwner, entry: Entry, mayBeEmpty: boolean): Promise<void> {
    const { outbound, nowMs, events } = this.ports;
    const begunAtMs = nowMs();
    entry.attemptedAtMs = begunAtMs;
    entry.fetchesBegun += 1;
    const answer = await outbound.get(new URL(jwksUri));
    // where there are no keys to keep, the refused ones with their reasons are what the report can show
    const unusable = mayBeEmpty ? "a set" : entry.keys.length === 0 ? "a set of refused keys" : "a fault";
    const intake = answer.ok ? readJwks(answer.value.body, unusable) : answer;
    events.fetched(clientId, intake.ok ? "fetched" : intake.fault.code, intake.ok ? "" : intake.fault.sentence);
    const outcome = { jwks: entry.jwks, vanished: [] as readonly string[] };
    const change = (before: FetchedJwks | undefined): FetchedJwks => {
      const freshUntilMs = begunAtMs + (answer.ok ? freshForMs(answer.value.headers) : 0);
      let after = intake.ok
        ? afterSuccess(before, intake.value, begunAtMs, freshUntilMs)
        : afterFailure(before, intake.fault.sentence, nowMs());
      // another node asked after we did, and its answer is there already: ours may be from before a change
      if (before !== undefined && isBetween(before.fetchedAtMs, begunAtMs, nowMs())) after = before;
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

  /** Never negative: after a clock was set back, a time that lies ahead is long ago. */
  private sinceMs(atMs: number): number {
    const sinceMs = this.ports.nowMs() - atMs;
    return sinceMs < -CLOCK_AHEAD_MS_MAX ? Infinity : Math.max(0, sinceMs);
  }

  private isFresh({ jwks }: Entry): boolean {
    if (jwks?.fetchedAtMs === undefined || jwks.freshUntilMs === undefined) return false;
    return this.sinceMs(jwks.fetchedAtMs) < jwks.freshUntilMs - jwks.fetchedAtMs;
  }

  private isNearlyStale({ jwks }: Entry): boolean {
    const { fetchedAtMs = 0, freshUntilMs = 0 } = jwks ?? {};
    return this.ports.nowMs() > freshUntilMs - (freshUntilMs - fetchedAtMs) * EARLY_PART;
  }

  private isUsable({ jwks }: Entry): boolean {
    return jwks?.fetchedAtMs !== undefined && this.ports.nowMs() - jwks.fetchedAtMs < STALE_MS_MAX;
  }
}

function newEntry(jwksUri: string): Entry {
  return {
    jwksUri,
    version: 0,
    jwks: undefined,
    keys: [],
    attemptedAtMs: -Infinity,
    askedForKidAtMs: -Infinity,
    fetchesBegun: 0,
    fetching: undefined,
  };
}

/** A request that read an older state of the record takes the newer one; what it is issued is checked against the record once more. */
function isUpToDate(entry: Entry, owner: JwksOwner): boolean {
  return entry.version >= owner.version;
}

function setJwks(entry: Entry, jwks: FetchedJwks | undefined): void {
  entry.jwks = jwks;
  const used = jwks?.keys.filter((key) => key.state === "used") ?? [];
  entry.keys = verifiersOf({ keys: used.map(({ jwk }) => jwk) });
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

function isBetween(atMs: number | undefined, fromMs: number, toMs: number): boolean {
  return atMs !== undefined && atMs > fromMs && atMs <= toMs;
}
