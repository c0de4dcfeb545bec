import { decodeUtf8, describeJwksFault, describeKeyFault, jwkOf, type KeyIntake, parseStrictJson, takeInJwks } from "@cambist/protocol";
import type { FetchedJwks, FetchedKey } from "../storage/store.ts";
import { thumbprint } from "./thumbprint.ts";

/** Keys that are gone are remembered, for whoever asks why a token was refused. */
const GONE_KEYS_MAX = 20;

export type JwksAnswer =
  | { readonly ok: true; readonly value: KeyIntake }
  | { readonly ok: false; readonly fault: { readonly code: "not_json" | "not_a_jwks" | "no_usable_key"; readonly sentence: string } };

/** What an answer without a usable key is taken for: a fault, like no answer, or a set of refused keys, or a set also where it is empty. */
export type UnusableSet = "a fault" | "a set of refused keys" | "a set";

/** The body of an answer. The last good keys are better than none, and so a set without a usable key is mostly a fault. */
export function readJwks(body: Uint8Array, unusable: UnusableSet): JwksAnswer {
  const text = decodeUtf8(body);
  const json = text === undefined ? undefined : parseStrictJson(text);
  if (json?.ok !== true) return { ok: false, fault: { code: "not_json", sentence: "its answer is not JSON" } };
  const intake = takeInJwks(json.value);
  if (!intake.ok) return { ok: false, fault: { code: "not_a_jwks", sentence: withoutFullStop(describeJwksFault(intake.fault)) } };
  const [first] = intake.value.refused;
  if (intake.value.used.length > 0 || unusable === "a set" || (first !== undefined && unusable === "a set of refused keys")) return intake;
  const why = first === undefined ? "it is empty" : withoutFullStop(describeKeyFault(first.fault));
  return { ok: false, fault: { code: "no_usable_key", sentence: `its key set has no usable key: ${why}` } };
}

/** Inside a sentence. */
function withoutFullStop(sentence: string): string {
  return sentence.replace(/\.$/, "").replaceAll('"', "'");
}

/** What is known after a good answer, in the light of what was known before it. */
export function afterSuccess(before: FetchedJwks | undefined, intake: KeyIntake, atMs: number, freshUntilMs: number): FetchedJwks {
  const used = intake.used.map((key) => ({
    kid: key.kid ?? null,
    thumbprint: thumbprint(key.jwk),
    algorithm: key.algorithm,
    state: "used" as const,
    reason: null,
    jwk: jwkOf(key),
  }));
  const refused = intake.refused.map((key) => ({
    kid: key.kid ?? null,
    thumbprint: null,
    algorithm: null,
    state: "refused" as const,
    reason: describeKeyFault(key.fault),
    jwk: null,
  }));
  const known = before?.keys ?? [];
  const present: FetchedKey[] = [...used, ...refused].map((key) => {
    const earlier = known.find((other) => isSame(other, key));
    return { ...key, firstSeenAtMs: earlier?.firstSeenAtMs ?? atMs, lastSeenAtMs: atMs };
  });
  const gone = known
    .filter((key) => key.state !== "refused" && !present.some((other) => isSame(key, other)))
    .map((key) => ({ ...key, state: "gone" as const }))
    .toSorted((left, right) => right.lastSeenAtMs - left.lastSeenAtMs)
    .slice(0, GONE_KEYS_MAX);
  return { keys: [...present, ...gone], fetchedAtMs: atMs, freshUntilMs, failedAtMs: before?.failedAtMs, failure: before?.failure };
}

export function afterFailure(before: FetchedJwks | undefined, failure: string, atMs: number): FetchedJwks {
  const nothing = { keys: [], fetchedAtMs: undefined, freshUntilMs: undefined };
  return { ...(before ?? nothing), failedAtMs: atMs, failure };
}

function isSame(left: Pick<FetchedKey, "kid" | "thumbprint" | "algorithm">, right: typeof left): boolean {
  return left.kid === right.kid && left.thumbprint === right.thumbprint && left.algorithm === right.algorithm;
}

/**
 * The kids of keys that went without overlap: gone from the set, and no key of the new set was in the old one, so that every token that
 * is under way is refused at once. A partner that rotates well publishes the next key beside the last one.
 */
export function vanishedKids(before: FetchedJwks | undefined, after: FetchedJwks): readonly string[] {
  const was = before?.keys.filter((key) => key.state === "used") ?? [];
  const is = after.keys.filter((key) => key.state === "used");
  if (was.some((key) => is.some((other) => isSame(key, other)))) return [];
  return was.map((key) => key.kid ?? "(without kid)");
}
