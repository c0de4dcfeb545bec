import { ACCESS_TOKEN_LIFETIME_SECONDS_MAX, type AccessTokenAlgorithm } from "@cambist/protocol";
import type { ListedSigningKey } from "../storage/store.ts";

const SECOND_MS = 1000;
const DAY_MS = 86_400 * SECOND_MS;

/** How long a key is published before it signs, unless an operator will not wait: whoever caches our key set has it by then. */
export const NEXT_PUBLISHED_MS_MIN = DAY_MS;
/** Ahead of a switch that could be at once: all nodes know of it by then, and the same request once more finds it scheduled. */
export const SWITCH_NOTICE_MS = 60 * SECOND_MS;
/** The `max-age` of our key set. */
const JWKS_CACHE_SECONDS = 300;
/** For how long a retired key is published and taken: the longest that a token may live, and the cache of those who check it. */
export const RETIRED_KEPT_MS = (ACCESS_TOKEN_LIFETIME_SECONDS_MAX + JWKS_CACHE_SECONDS) * SECOND_MS;

/** What is to be done about the keys of an algorithm at a time, milliseconds since 1970. */
export type DueWork =
  | { readonly kind: "drop" }
  | { readonly kind: "switch"; readonly from: string }
  | { readonly kind: "schedule"; readonly notBeforeMs: number };

/**
 * By the stored times alone, so that every node comes to the same end and the one that is first does it. `signingKeyDays`: how long a key
 * signs before it is switched by itself; 0: never.
 */
export function dueWork(
  keys: readonly ListedSigningKey[],
  algorithm: AccessTokenAlgorithm,
  { nowMs, signingKeyDays }: { readonly nowMs: number; readonly signingKeyDays: number },
): DueWork[] {
  const due: DueWork[] = [];
  if (keys.some((key) => key.state === "retired" && key.dropAfterMs !== undefined && key.dropAfterMs <= nowMs)) due.push({ kind: "drop" });
  const current = findKeyInState(keys, algorithm, "current");
  const next = findKeyInState(keys, algorithm, "next");
  if (current === undefined || next === undefined) return due;
  if (signsBy(next, nowMs)) return [...due, { kind: "switch", from: current.kid }];
  const turnMs = (current.signsFromMs ?? current.createdAtMs) + signingKeyDays * DAY_MS;
  if (signingKeyDays > 0 && next.signsFromMs === undefined && nowMs >= turnMs - NEXT_PUBLISHED_MS_MIN) {
    due.push({ kind: "schedule", notBeforeMs: Math.max(turnMs, nowMs + SWITCH_NOTICE_MS) });
  }
  return due;
}

/** A key that is to sign from a time on does so on every node at that time, whether or not one of them has made it the current one yet. */
export function signsBy(next: ListedSigningKey | undefined, nowMs: number): boolean {
  return next?.signsFromMs !== undefined && next.signsFromMs <= nowMs;
}

export function findKeyInState(
  keys: readonly ListedSigningKey[],
  algorithm: AccessTokenAlgorithm,
  state: "current" | "next",
): ListedSigningKey | undefined {
  return keys.find((key) => key.algorithm === algorithm && key.state === state);
}
