import { takeInJwks } from "../../packages/protocol/src/index.ts";
import type { KeyFault } from "../../packages/protocol/src/jwt/key-intake.ts";
import type { TestAlgorithm } from "../../packages/server/src/testing/jwt.ts";
import type { Asked } from "./explanation.ts";
import type { Question } from "./opinions.ts";

/** By which key jose verifies, and by which we do. */

export type Jwk = Readonly<Record<string, unknown>>;

const TYPE_OF: Readonly<Record<TestAlgorithm, readonly [kty: string, crv?: string]>> = {
  RS256: ["RSA"],
  PS256: ["RSA"],
  ES256: ["EC", "P-256"],
  ES384: ["EC", "P-384"],
  EdDSA: ["OKP", "Ed25519"],
};

export const headerOf = ({ token }: Asked): Jwk => token.header.members ?? {};
/** An entry that is no object is a key without members. */
export const entriesOf = ({ question }: Asked): readonly Jwk[] =>
  question.jwks.keys.map((entry) => (typeof entry === "object" && entry !== null ? (entry as Jwk) : {}));

export const isNames = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((name) => typeof name === "string") && new Set(value).size === value.length;

/** jose's own choice: the keys of the token's kid, if it has one, that fit its algorithm. */
export function keysOfJose(asked: Asked): { readonly jwk: Jwk; readonly index: number }[] {
  const { alg, kid } = headerOf(asked);
  const [kty, crv] = TYPE_OF[alg as TestAlgorithm] ?? [];
  return entriesOf(asked)
    .map((jwk, index) => ({ jwk, index }))
    .filter(
      ({ jwk }) =>
        (kid === undefined || jwk["kid"] === kid) &&
        jwk["kty"] === kty &&
        (crv === undefined || jwk["crv"] === crv) &&
        (jwk["alg"] === undefined || jwk["alg"] === alg) &&
        (jwk["use"] === undefined || jwk["use"] === "sig") &&
        (jwk["ext"] === undefined || typeof jwk["ext"] === "boolean") &&
        (jwk["key_ops"] === undefined || (isNames(jwk["key_ops"]) && jwk["key_ops"].includes("verify"))),
    );
}

export function keyOfJose(asked: Asked): { readonly jwk: Jwk; readonly index: number } | undefined {
  const keys = keysOfJose(asked);
  return keys.length === 1 ? keys[0] : undefined;
}

/** What our intake takes in. */
export function usableOf(asked: Asked): Jwk[] {
  const intake = takeInJwks(asked.question.jwks);
  if (!intake.ok) return [];
  const refused = new Set(intake.value.refused.map(({ index }) => index));
  return entriesOf(asked).filter((_, index) => !refused.has(index));
}

/** Ours: the usable key of that kid, or the only usable one. */
export function keyOfOurs(asked: Asked): Jwk {
  const { kid } = headerOf(asked);
  const usable = usableOf(asked);
  const chosen = usable.filter((jwk) => kid === undefined || jwk["kid"] === kid);
  return (chosen.length === 1 && chosen[0]) || {};
}

/** The same question to a partner that has published this key and nothing else, without these members. */
export function alone(asked: Asked, ...without: readonly string[]): Question {
  const jwk = Object.fromEntries(Object.entries(keyOfOurs(asked)).filter(([member]) => !without.includes(member)));
  return { ...asked.question, jwks: { keys: [jwk] } };
}

export function intakeFaultOf(asked: Asked, index: number): KeyFault | undefined {
  const intake = takeInJwks(asked.question.jwks);
  return intake.ok ? intake.value.refused.find((refused) => refused.index === index)?.fault : undefined;
}
