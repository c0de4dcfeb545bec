import * as fc from "fast-check";
import { type Edit, editsOf, type Member, oddValue, quoted } from "./generate-text.ts";
import { UNLIMITED_CLIENT } from "../../packages/server/src/testing/client.ts";

/** Claims and headers: right ones, and edits of them. */

export const NOW = 1_750_000_000;

export const RIGHT_CLAIMS: readonly Member[] = [
  ['"iss"', quoted(UNLIMITED_CLIENT.issuer)],
  ['"sub"', '"user 1"'],
  ['"aud"', quoted(UNLIMITED_CLIENT.audience)],
  ['"exp"', String(NOW + 300)],
  ['"iat"', String(NOW - 10)],
  ['"nbf"', String(NOW - 10)],
  ['"jti"', '"jti 1"'],
];

const strings = (name: string, ...values: readonly unknown[]) =>
  fc.constantFrom(...values.map((value): Member => [quoted(name), JSON.stringify(value)]));

/** A number as JSON may spell it. */
const spelled = (value: number) =>
  fc.constantFrom(String(value), value.toFixed(3), value.toExponential(), `${value}e0`, `${value * 10}E-1`);
/** Within two seconds, down to a thousandth and to the last bit. */
const offset = fc.oneof(
  fc.constantFrom(0, 0.001, -0.001, 0.25, 0.5, 0.75, 1, -1, -0.25, 2 ** -22, -(2 ** -22)),
  fc.integer({ min: -2000, max: 2000 }).map((ms) => ms / 1000),
);
const SKEW = UNLIMITED_CLIENT.clockSkewSeconds;
const LIFETIME = UNLIMITED_CLIENT.assertionLifetimeSecondsMax;

function time(name: string, ...seconds: readonly number[]): fc.Arbitrary<Member> {
  return fc.tuple(fc.constantFrom(...seconds), offset).chain(([at, off]) => spelled(at + off).map((text): Member => [quoted(name), text]));
}

const EVER = [0, -1, -NOW, 1e15, 1e300, 2 ** 31, 2 ** 32, 2 ** 53, NOW * 1000];

const nearClaim: fc.Arbitrary<Member> = fc.oneof(
  strings(
    "iss",
    UNLIMITED_CLIENT.issuer.toUpperCase(),
    `${UNLIMITED_CLIENT.issuer} `,
    "",
    [UNLIMITED_CLIENT.issuer],
    { toString: UNLIMITED_CLIENT.issuer },
    UNLIMITED_CLIENT.audience,
  ),
  strings(
    "aud",
    [UNLIMITED_CLIENT.audience],
    [],
    [[UNLIMITED_CLIENT.audience]],
    `${UNLIMITED_CLIENT.audience}/`,
    UNLIMITED_CLIENT.audience.toUpperCase(),
    {
      0: UNLIMITED_CLIENT.audience,
      length: 1,
    },
  ),
  strings(
    "aud",
    [UNLIMITED_CLIENT.audience, "x"],
    ["x", UNLIMITED_CLIENT.audience],
    [UNLIMITED_CLIENT.audience, UNLIMITED_CLIENT.audience],
    [1, UNLIMITED_CLIENT.audience],
    [null],
    ["x"],
  ),
  strings(
    "sub",
    "",
    "u",
    1,
    null,
    true,
    [],
    {},
    ["u"],
    "a\0",
    "a\n",
    "\u007f",
    "\u0085",
    "\u2028",
    "é",
    "😀".repeat(127),
    "😀".repeat(128),
    "s".repeat(256),
  ),
  strings("jti", "", "j", 1, null, false, [], {}, "a\u0000b", "\u009f", "j".repeat(255), "j".repeat(256), "__proto__"),
  time("exp", NOW - SKEW, NOW, NOW - 10, NOW - 10 + LIFETIME, NOW + LIFETIME, ...EVER),
  time("iat", NOW + SKEW, NOW, NOW + 300, NOW + 300 - LIFETIME, NOW - SKEW, ...EVER),
  time("nbf", NOW + SKEW, NOW, NOW + 300, ...EVER),
);

const strangeName = fc.constantFrom("__proto__", "constructor", "toString", "scope", "act", "SUB", "", "\0", "exp ", "sub\u0000", "é");
const strangeMember: fc.Arbitrary<Member> = fc.tuple(strangeName, oddValue).map(([name, value]) => [quoted(name), value]);

/** Times that stay together, so that their bounds are met by tokens that are otherwise right. */
const INTERVALS: readonly (readonly [from: number, to: number])[] = [
  [-LIFETIME - SKEW, -SKEW],
  [-LIFETIME, 0],
  [-SKEW - 60, -SKEW],
  [SKEW, SKEW + 60],
  [SKEW, SKEW + LIFETIME],
  [0, LIFETIME],
  [0, 0],
  [SKEW, SKEW],
  [-SKEW, -SKEW],
];
const exactly = fc.oneof(fc.constant(0), offset);
const timeEdits: fc.Arbitrary<Edit[]> = fc
  .tuple(fc.constantFrom(...INTERVALS), exactly, exactly, fc.constantFrom("iat", "nbf"))
  .map(([[from, to], off, more, begin]): Edit[] => [
    { edit: "set", name: '"iat"', value: String(NOW + (begin === "iat" ? from : Math.min(from, 0)) + off) },
    { edit: "set", name: '"exp"', value: String(NOW + to + off + more) },
    begin === "iat" ? { edit: "remove", name: '"nbf"' } : { edit: "set", name: '"nbf"', value: String(NOW + from + off) },
  ]);

export const claimEdits: fc.Arbitrary<Edit[]> = fc.oneof(
  { weight: 3, arbitrary: editsOf(RIGHT_CLAIMS, nearClaim, strangeMember) },
  { weight: 2, arbitrary: timeEdits },
);

export function rightHeader(alg: string, kid: string): readonly Member[] {
  return [
    ['"alg"', quoted(alg)],
    ['"kid"', quoted(kid)],
    ['"typ"', '"JWT"'],
  ];
}

const ALGS = [
  "none",
  "None",
  "HS256",
  "HS384",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "ES256",
  "ES384",
  "ES512",
  "ES256K",
  "EdDSA",
  "Ed25519",
  "EDDSA",
  "rs256",
  "dir",
];
const EVIL_JWK = { kty: "oct", k: "AAAA" };

const nearHeader: fc.Arbitrary<Member> = fc.oneof(
  strings("alg", ...ALGS, "", ["RS256"], "toString"),
  strings(
    "kid",
    "key-RS256",
    "key-PS256",
    "key-ES256",
    "key-ES384",
    "key-EdDSA",
    "KEY-RS256",
    "key-ES256 ",
    "",
    0,
    ["key-ES256"],
    "../../dev/null",
    "k".repeat(256),
  ),
  strings(
    "typ",
    "jwt",
    "Jwt",
    "application/jwt",
    "application/JWT",
    "at+jwt",
    "dpop+jwt",
    "JOSE",
    "",
    " JWT",
    "x/jwt",
    "ｊｗｔ",
    ["JWT"],
    "application/application/jwt",
  ),
);

const strangeHeader: fc.Arbitrary<Member> = fc.oneof(
  strings("crit", [], ["b64"], ["exp"], ["x"], "b64", null, ["b64", "b64"], ["alg"], ["__proto__"]),
  strings("b64", true, false, "true", null),
  strings("jwk", EVIL_JWK, {}, null),
  strings("jku", "https://evil.example/jwks"),
  strings("x5c", ["MIIB"], []),
  strings("zip", "DEF"),
  strings("cty", "JWT"),
  strings("iss", UNLIMITED_CLIENT.issuer),
  strangeMember,
);

/** crit and b64 mean something only together (RFC 7797). */
const unencoded = (b64: boolean): Edit[] => [
  { edit: "add", first: false, name: '"b64"', value: String(b64) },
  { edit: "add", first: false, name: '"crit"', value: '["b64"]' },
];

export const headerEdits: fc.Arbitrary<Edit[]> = fc.oneof(
  { weight: 16, arbitrary: editsOf(rightHeader("", ""), nearHeader, strangeHeader).map((edits) => edits.map(withoutPlaceholder)) },
  { weight: 1, arbitrary: fc.boolean().map(unencoded) },
);

/** A repeated member repeats the right value, which only the token's maker knows. */
function withoutPlaceholder(edit: Edit): Edit {
  return edit.edit === "add" && edit.value === '""' ? { ...edit, value: '"ES256"' } : edit;
}
