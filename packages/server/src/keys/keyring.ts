import { setTimeout as sleep } from "node:timers/promises";
import { type AccessTokenAlgorithm, type AccessTokenKey, type Signer, StoreUnavailable } from "@cambist/protocol";
import type { KeySwitch, ListedSigningKey, SigningKeyStore } from "../storage/store.ts";
import { type DueWork, dueWork, findKeyInState, NEXT_PUBLISHED_MS_MIN, RETIRED_KEPT_MS, SWITCH_NOTICE_MS } from "./key-schedule.ts";
import { type KeySnapshot, snapshotOf } from "./key-snapshot.ts";
import type { MasterKeys } from "./master-key.ts";
import { hasPrivateHalf, makeSigningKey, openPrivateKey, resealed } from "./signing-key.ts";

/** Our own signing keys: what we sign with, what we publish, and what our tokens are checked by. As the store has them, at most some seconds ago. */
export interface Keyring {
  /** What signs now. @throws StoreUnavailable where this node cannot open the keys that are left. */
  signer(): Signer;
  /** As last read: a key that another node has just put in use may be missing, see refreshForKid. */
  findKey(kid: string): AccessTokenKey | undefined;
  /** RFC 7517 §5: public members only; the next key is published before it signs, a retired one until its last token has expired. */
  jwks(): { readonly keys: readonly Readonly<Record<string, unknown>>[] };
  /** Another number whenever a key is gone: what was verified by it before must be verified again. */
  generation(): number;
  /**
   * Reads the keys again for a kid that is not known, once in a second for all that ask: who comes too soon after the last time waits, unless
   * too many do. Gives whether it is known then. @throws StoreUnavailable
   */
  refreshForKid(kid: string): Promise<boolean>;
  /** Has the published next key take over as soon as it has been published for a day. Gives all keys, and when, milliseconds. */
  scheduleSwitch(): Promise<{ readonly keys: readonly ListedSigningKey[]; readonly switchesAtMs: number }>;
  /**
   * Has the published next key take over at once, and publishes a new one. `drop`: the former key and those that were retired before it are
   * gone with that. Gives all keys. "outdated": of several at once, another one was first, and nothing was done.
   */
  switchNow(former: "retire" | "drop"): Promise<readonly ListedSigningKey[] | "outdated">;
  /** Reads no more. Resolves when what was under way has ended. */
  close(): Promise<void>;
}

/** For the log. Kids are public. */
export interface KeyringEvents {
  scheduled(kid: string, atMs: number): void;
  switched(change: Pick<KeySwitch, "from" | "former">): void;
  /** The first time of several in a row: the last keys that were read serve on. */
  readFailed(error: unknown): void;
  /** Another node sealed it under a master key that this one does not have: it cannot sign with it. */
  notOpened(kid: string): void;
}

export interface KeyringOptions {
  readonly store: SigningKeyStore;
  readonly masterKeys: MasterKeys;
  readonly algorithm: AccessTokenAlgorithm;
  /** How long a key signs before it is switched by itself; 0: never. */
  readonly signingKeyDays: number;
  readonly nowMs: () => number;
  readonly events: KeyringEvents;
}

const READ_EVERY_MS = 1_000;
const READ_FOR_KID_EVERY_MS = 1_000;
/** Who forges kids is not given more than these to hold. */
const WAITING_FOR_KIDS_MAX = 64;
/** Of a kid of ours (RFC 7638, SHA-256): no other one is worth a read. */
const KID_FORM = /^[A-Za-z0-9_-]{43}$/;

/**
 * Loads the keys, and makes a current and a next one where an algorithm has none: at the first start, or for a newly configured
 * algorithm. Private keys are kept only sealed, and brought under the newest master key here. The store is read again every second
 * until `close`, and what is due by the schedule is done.
 * @throws when a stored key cannot be opened: a new one is never made in silence, for every API would then refuse every token.
 */
export async function openKeyring(options: KeyringOptions): Promise<Keyring> {
  const { store, masterKeys, algorithm, nowMs } = options;
  // opened before any is made: a key sealed under a wrong master key would lock this store for the right one too
  let keys = await listOpenable(store, masterKeys);
  const missing = (["current", "next"] as const).filter((state) => findKeyInState(keys, algorithm, state) === undefined);
  for (const state of missing) await store.addIfAbsent(makeSigningKey(algorithm, state, masterKeys), nowMs());
  if (missing.length > 0) keys = await listOpenable(store, masterKeys);
  for (const key of keys) {
    const sealed = hasPrivateHalf(key) ? resealed(key, masterKeys) : undefined;
    if (sealed !== undefined) await store.reseal(key.kid, key.sealingKeyId, sealed);
  }
  if (findKeyInState(keys, algorithm, "current") === undefined) throw new Error(`the store has no current ${algorithm} signing key`);
  const keyring = new StoredKeyring(options, keys);
  await keyring.start();
  return keyring;
}

async function listOpenable(store: SigningKeyStore, masterKeys: MasterKeys): Promise<readonly ListedSigningKey[]> {
  const keys = await store.list();
  for (const key of keys) {
    if (!hasPrivateHalf(key) || openPrivateKey(key, masterKeys) !== undefined) continue;
    throw new Error(
      `CAMBIST_MASTER_KEY does not open the stored signing key ${key.kid}. Start with the master key that this store was made with ` +
        "(a rotated one goes first in the list: new,old). No new signing key was made.",
    );
  }
  return keys;
}

class StoredKeyring implements Keyring {
  private readonly options: KeyringOptions;
  private snapshot: KeySnapshot;
  private removals = 0;
  /** One at a time: an answer from before a switch must not be taken after it. */
  private turn: Promise<unknown> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private isClosed = false;
  private isFailing = false;
  /** The read that all unknown kids are waiting for, which has not begun yet. */
  private readForKids: Promise<void> | undefined;
  private readForKidAtMs = Number.NEGATIVE_INFINITY;
  private waitingForKids = 0;

  constructor(options: KeyringOptions, keys: readonly ListedSigningKey[]) {
    this.options = options;
    this.snapshot = snapshotOf(keys, undefined, options);
  }

  /** What came due while no node ran is done before the first request. */
  async start(): Promise<void> {
    await this.keepUp();
    if (this.isClosed) return;
    this.timer = setTimeout(() => void this.start(), READ_EVERY_MS);
    this.timer.unref();
  }

  signer(): Signer {
    const { current, next, nextSignsFromMs } = this.snapshot;
    const signer = next !== undefined && this.options.nowMs() >= nextSignsFromMs ? next : current;
    if (signer === undefined) throw new StoreUnavailable("CAMBIST_MASTER_KEY opens none of the signing keys that are in use");
    return signer;
  }

  findKey(kid: string): AccessTokenKey | undefined {
    return this.snapshot.verifiers.get(kid);
  }

  jwks(): KeySnapshot["jwks"] {
    return this.snapshot.jwks;
  }

  generation(): number {
    return this.removals;
  }

  async refreshForKid(kid: string): Promise<boolean> {
    if (this.findKey(kid) !== undefined) return true;
    if (!KID_FORM.test(kid) || this.waitingForKids >= WAITING_FOR_KIDS_MAX) return false;
    this.waitingForKids++;
    try {
      await (this.readForKids ??= this.readForKid());
    } finally {
      this.waitingForKids--;
    }
    return this.findKey(kid) !== undefined;
  }

  private async readForKid(): Promise<void> {
    const waitMs = this.readForKidAtMs + READ_FOR_KID_EVERY_MS - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    await this.inTurn(() => {
      this.readForKids = undefined; // a key may be put in use after this read has begun: who asks from now on needs a later one
      this.readForKidAtMs = performance.now();
      return this.read();
    });
  }

  scheduleSwitch(): Promise<{ readonly keys: readonly ListedSigningKey[]; readonly switchesAtMs: number }> {
    return this.inTurn(() => this.schedule(this.options.nowMs() + SWITCH_NOTICE_MS));
  }

  async switchNow(former: "retire" | "drop"): Promise<readonly ListedSigningKey[] | "outdated"> {
    const { store, algorithm } = this.options;
    // read before its turn comes: of two requests at once, the second must not switch what the first has made
    const current = findKeyInState(await store.list(), algorithm, "current");
    return this.inTurn(() => this.switch(current?.kid ?? "", former));
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    await this.turn;
  }

  private async keepUp(): Promise<void> {
    try {
      await this.inTurn(async () => {
        if (this.isClosed) return;
        await this.read();
        const { algorithm, signingKeyDays, nowMs } = this.options;
        for (const work of dueWork(this.snapshot.keys, algorithm, { nowMs: nowMs(), signingKeyDays })) await this.perform(work);
      });
      this.isFailing = false;
    } catch (thrown) {
      if (!this.isFailing) this.options.events.readFailed(thrown);
      this.isFailing = true;
    }
  }

  private async perform(work: DueWork): Promise<void> {
    switch (work.kind) {
      case "drop":
        await this.options.store.dropRetired(this.options.nowMs());
        return this.read();
      case "schedule":
        await this.schedule(work.notBeforeMs);
        return;
      case "switch":
        if ((await this.switch(work.from, "retire")) === "outdated") await this.read();
    }
  }

  private async schedule(notBeforeMs: number): Promise<{ readonly keys: readonly ListedSigningKey[]; readonly switchesAtMs: number }> {
    const { store, algorithm, events } = this.options;
    const before = findKeyInState(this.snapshot.keys, algorithm, "next");
    const keys = await store.schedule(algorithm, { notBeforeMs, publishedMsMin: NEXT_PUBLISHED_MS_MIN });
    this.take(keys);
    const next = findKeyInState(keys, algorithm, "next");
    if (next?.signsFromMs === undefined) throw new Error(`the store has no next ${algorithm} signing key`);
    if (next.kid !== before?.kid || next.signsFromMs !== before.signsFromMs) events.scheduled(next.kid, next.signsFromMs);
    return { keys, switchesAtMs: next.signsFromMs };
  }

  private async switch(from: string, how: "retire" | "drop"): Promise<readonly ListedSigningKey[] | "outdated"> {
    const { store, algorithm, masterKeys, nowMs, events } = this.options;
    const former = how === "drop" ? how : { dropAfterMs: nowMs() + RETIRED_KEPT_MS };
    const keys = await store.switch({ from, former, successor: makeSigningKey(algorithm, "next", masterKeys) }, nowMs());
    if (keys === "outdated") return keys;
    this.take(keys);
    events.switched({ from, former });
    return keys;
  }

  private async read(): Promise<void> {
    this.take(await this.options.store.list());
  }

  private take(keys: readonly ListedSigningKey[]): void {
    const before = this.snapshot;
    const after = snapshotOf(keys, before, this.options);
    if (after === before) return;
    this.snapshot = after;
    for (const kid of after.notOpened) if (!before.notOpened.includes(kid)) this.options.events.notOpened(kid);
    if ([...before.verifiers.keys()].some((kid) => !after.verifiers.has(kid))) this.removals += 1;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}
