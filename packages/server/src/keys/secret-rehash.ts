import type { PartnerSecret, PartnerStore } from "../storage/store.ts";
import type { MasterKeys } from "./master-key.ts";

/** Between two attempts of a node at one secret: while nodes have the master keys in different orders, each would undo the other's. */
const ATTEMPT_EVERY_MS = 60_000;
const REMEMBERED_MAX = 10_000;

/** A client's secret, as it was presented, beside what is kept of it. */
export interface PresentedSecret {
  readonly clientId: string;
  readonly secret: Pick<PartnerSecret, "secretId" | "hash" | "pepperId">;
  readonly presented: string;
}

/**
 * Brings secrets under the newest master key as they are used, for only then are they there to be hashed. Behind the request's back: a
 * failure is left to the next use. Does NOT check the secret: call it with one that has been found right.
 */
export function secretRehash(
  store: Pick<PartnerStore, "rehashSecret">,
  masterKeys: MasterKeys,
  nowMs: () => number = () => performance.now(),
): (used: PresentedSecret) => void {
  const attemptedAtMs = new Map<string, number>();
  return ({ clientId, secret, presented }) => {
    if (masterKeys.isNewest(secret.pepperId)) return;
    const lastMs = attemptedAtMs.get(secret.secretId);
    if (lastMs !== undefined && nowMs() < lastMs + ATTEMPT_EVERY_MS) return;
    if (attemptedAtMs.size >= REMEMBERED_MAX) attemptedAtMs.clear();
    attemptedAtMs.set(secret.secretId, nowMs());
    store.rehashSecret(clientId, secret.secretId, secret.hash, masterKeys.hashSecret(presented)).catch(() => undefined);
  };
}
