import { Buffer } from "node:buffer";
import * as fc from "fast-check";
import { keyPlan, type KeyPlan, jwksOf } from "./generate-keys.ts";
import { claimEdits, headerEdits, NOW, RIGHT_CLAIMS, rightHeader } from "./generate-members.ts";
import { isGenuine, type SignatureEdit, signatureBy, signatureEdit } from "./generate-signature.ts";
import { applyEdits, type ByteEdit, byteEdit, bytesOf, type Edit, type Member, respell, type Spelling, spelling } from "./generate-text.ts";
import type { Question } from "./opinions.ts";
import { NAMES, partnerOf, signerAt } from "./partners.ts";

/** How a token is made, as data: a generator chooses, a shrinker simplifies, and `questionOf` does it. */
export interface Plan {
  /** By name. */
  readonly partner: string;
  readonly signer: number;
  readonly header: readonly Edit[];
  readonly headerBytes: ByteEdit;
  readonly claims: readonly Edit[];
  readonly claimsBytes: ByteEdit;
  /** Before it is signed, so that the signature is over the odd spelling; then the signature's own. */
  readonly headerSpelling: Spelling | null;
  readonly claimsSpelling: Spelling | null;
  readonly signatureSpelling: Spelling | null;
  readonly signature: SignatureEdit;
  /** After it is signed. */
  readonly mutations: readonly Mutation[];
  readonly milliseconds: number;
  /** Instead of the partner's own keys. */
  readonly keys: KeyPlan | null;
}

export interface Mutation {
  readonly how:
    | "replace"
    | "insert"
    | "remove"
    | "cut"
    | "swap"
    | "double dot"
    | "another part"
    | "drop a part"
    | "Bearer"
    | "lower case"
    | "JSON";
  readonly at: number;
  readonly letter: string;
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  how: fc.constantFrom(
    ...([
      "replace",
      "insert",
      "remove",
      "replace",
      "insert",
      "cut",
      "swap",
      "double dot",
      "another part",
      "drop a part",
      "Bearer",
      "lower case",
      "JSON",
    ] as const),
  ),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  letter: fc.oneof(
    fc.constantFrom(..."AQgwz09-_=+/. \n\r\t\f\v\0é\u212a".split("")),
    fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
  ),
});

/** ES384 is ten times as dear as the others, and no different to anyone but the arithmetic. */
const signer = fc.constantFrom(0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4, 4, 4);
const milliseconds = fc.oneof(fc.constant(0), fc.constantFrom(1, 250, 500, 750, 999), fc.nat({ max: 999 }));
const partner = fc.oneof({ weight: 3, arbitrary: fc.constant(NAMES.five) }, { weight: 1, arbitrary: fc.constantFrom(...NAMES.alone) });

const right = {
  partner,
  signer,
  header: fc.constant<Edit[]>([]),
  headerBytes: fc.constant<ByteEdit>("none"),
  claims: fc.constant<Edit[]>([]),
  claimsBytes: fc.constant<ByteEdit>("none"),
  headerSpelling: fc.constant(null),
  claimsSpelling: fc.constant(null),
  signatureSpelling: fc.constant(null),
  signature: fc.constant<SignatureEdit>({ how: "right" }),
  mutations: fc.constant<Mutation[]>([]),
  milliseconds,
  keys: fc.constant(null),
};
type Arbitraries = { readonly [K in keyof Plan]: fc.Arbitrary<Plan[K]> };
const but = (changes: Partial<Arbitraries>): fc.Arbitrary<Plan> => fc.record<Plan>({ ...right, ...changes });

const noKid: Edit[] = [{ edit: "remove", name: '"kid"' }];
const long: Edit[] = [{ edit: "add", first: false, name: '"long"', value: JSON.stringify("x".repeat(12_000)) }];
const oddly = fc.option(spelling, { nil: null });

/** One thing wrong at a time, mostly: of two faults in one token, the first hides the second. */
export const plan: fc.Arbitrary<Plan> = fc.oneof(
  { weight: 10, arbitrary: but({ claims: claimEdits }) },
  { weight: 4, arbitrary: but({ header: headerEdits }) },
  { weight: 1, arbitrary: but({ headerBytes: byteEdit }) },
  { weight: 1, arbitrary: but({ claimsBytes: byteEdit }) },
  { weight: 1, arbitrary: but({ claims: fc.constant(long) }) },
  { weight: 2, arbitrary: but({ headerSpelling: oddly, claimsSpelling: oddly, signatureSpelling: oddly }) },
  { weight: 4, arbitrary: but({ signature: signatureEdit }) },
  { weight: 4, arbitrary: but({ mutations: fc.array(mutation, { minLength: 1, maxLength: 3 }) }) },
  { weight: 1, arbitrary: but({ header: fc.constantFrom([], noKid), signer: fc.nat({ max: 4 }) }) },
  {
    weight: 2,
    arbitrary: but({
      partner: fc.constantFrom(...NAMES.odd),
      header: fc.oneof({ weight: 3, arbitrary: fc.constantFrom([], noKid) }, { weight: 1, arbitrary: headerEdits }),
      signer: fc.nat({ max: 2 }),
    }),
  },
  { weight: 3, arbitrary: but({ keys: keyPlan, header: fc.constantFrom([], [], noKid) }) },
  {
    weight: 1,
    arbitrary: but({
      claims: claimEdits,
      header: headerEdits,
      signature: fc.oneof(signatureEdit, right.signature),
      headerBytes: fc.oneof(right.headerBytes, byteEdit),
    }),
  },
);

const [unchanged] = fc.sample(but({}), 1);
const UNCHANGED = JSON.stringify({ ...unchanged, partner: "", signer: 0, milliseconds: 0 });

export interface Made {
  readonly question: Question;
  /** The claims were right, the key is published as it should be, and nothing was changed. */
  readonly isRight: boolean;
  /** Did the partner's key sign this text with this signature? */
  readonly isSigned: (token: string) => boolean;
}

export function questionOf(made: Plan): Made {
  const { keys } = made;
  const { jwks, signers } = partnerOf(made.partner);
  const by = keys === null ? signerAt(made.signer, signers) : signerAt(keys.signer);
  // A partner with one unnamed key is sent tokens without kid.
  const named: readonly Member[] = rightHeader(by.algorithm, by.kid).filter(
    ([name]) => name !== '"kid"' || keys !== null || !NAMES.alone.includes(made.partner),
  );
  const header = segment(bytesOf(applyEdits(named, made.header), made.headerBytes), made.headerSpelling);
  const payload = segment(bytesOf(applyEdits(RIGHT_CLAIMS, made.claims), made.claimsBytes), made.claimsSpelling);
  const input = `${header}.${payload}`;
  const signature = signatureBy(by, input, made.signature);
  let token = `${input}.${segment(signature.bytes, made.signatureSpelling)}`;
  for (const change of made.mutations) token = mutated(token, change);
  return {
    question: { token, jwks: keys === null ? jwks : jwksOf(keys), nowMs: NOW * 1000 + made.milliseconds },
    isRight: JSON.stringify({ ...made, partner: "", signer: 0, milliseconds: 0 }) === UNCHANGED && !NAMES.odd.includes(made.partner),
    isSigned: (text) => {
      const dot = text.lastIndexOf(".");
      return text.slice(0, dot) === input && isGenuine(Buffer.from(text.slice(dot + 1), "base64url"), signature.genuine, by);
    },
  };
}

function segment(bytes: Buffer, oddSpelling: Spelling | null): string {
  const text = bytes.toString("base64url");
  return oddSpelling === null ? text : respell(text, oddSpelling);
}

function mutated(token: string, { how, at, letter }: Mutation): string {
  const place = Math.floor(at * token.length);
  const [header = "", payload = "", signature = ""] = token.split(".");
  switch (how) {
    case "replace":
      return token.slice(0, place) + letter + token.slice(place + 1);
    case "insert":
      return token.slice(0, place) + letter + token.slice(place);
    case "remove":
      return token.slice(0, place) + token.slice(place + 1);
    case "cut":
      return token.slice(0, place);
    case "swap":
      return [payload, header, signature].join(".");
    case "double dot":
      return token.replace(".", "..");
    case "another part":
      return `${token}.${signature}`;
    case "drop a part":
      return at < 0.5 ? `${header}.${payload}.` : `${header}..${signature}`;
    case "Bearer":
      return `Bearer ${token}`;
    case "lower case":
      return token.toLowerCase();
    case "JSON":
      return JSON.stringify({ protected: header, payload, signature });
  }
}
