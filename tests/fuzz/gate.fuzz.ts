import * as fc from "fast-check";
import { describe, expect } from "vitest";
import { JSON_DEPTH_MAX, JWT_BYTES_MAX, KID_CHARACTERS_MAX, SUBJECT_TOKEN_ALGORITHMS } from "../../packages/protocol/src/constants.ts";
import { type GateRules, type Jws, parseClaims, parseJws } from "../../packages/protocol/src/jwt/gate.ts";
import { forgivenBy } from "../second-opinion/lenient.ts";
import { applyEdits, byteEdit, bytesOf, respell, spelling } from "../second-opinion/generate-text.ts";
import { claimEdits, headerEdits, RIGHT_CLAIMS, rightHeader } from "../second-opinion/generate-members.ts";
import { fuzz } from "./fuzz.ts";

/** As for a subject token. */
const RULES: GateRules = { algorithms: SUBJECT_TOKEN_ALGORITHMS, typ: { name: "jwt", optional: true } };

const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64url");

const header = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.constantFrom(...SUBJECT_TOKEN_ALGORITHMS), fc.constantFrom("k", "é", "k".repeat(255), "k".repeat(256)))
      .map(([alg, kid]) => bytesOf(rightHeader(alg, kid), "none")),
  },
  { weight: 6, arbitrary: headerEdits.map((edits) => bytesOf(applyEdits(rightHeader("ES256", "k"), edits), "none")) },
  { weight: 2, arbitrary: byteEdit.map((edit) => bytesOf(rightHeader("ES256", "k"), edit)) },
  { weight: 1, arbitrary: fc.json().map((text) => Buffer.from(text)) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)) },
);
const payload = fc.oneof(
  { weight: 3, arbitrary: claimEdits.map((edits) => bytesOf(applyEdits(RIGHT_CLAIMS, edits), "none")) },
  { weight: 1, arbitrary: byteEdit.map((edit) => bytesOf(RIGHT_CLAIMS, edit)) },
  { weight: 1, arbitrary: fc.json().map((text) => Buffer.from(text)) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 1, arbitrary: fc.integer({ min: 12_100, max: 12_300 }).map((length) => Buffer.alloc(length, "a")) },
);
const signature = fc.uint8Array({ maxLength: 70, minLength: 0 });
const good = fc.tuple(header, payload, signature).map((parts) => parts.map(base64url).join("."));

interface Change {
  readonly at: number;
  readonly cut: number;
  readonly put: string;
}
const letter = fc.oneof(
  fc.constantFrom(..."AQgwz09-_=+/. \n\r\t\f\v\0é\u212a".split("")),
  fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
  fc.constant(""),
);
const change: fc.Arbitrary<Change> = fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), cut: fc.nat({ max: 2 }), put: letter });
const changed = (text: string, { at, cut, put }: Change): string => {
  const place = Math.floor(at * (text.length + 1));
  return text.slice(0, place) + put + text.slice(place + cut);
};
const token = fc.oneof(
  { weight: 5, arbitrary: good },
  {
    weight: 3,
    arbitrary: fc.tuple(good, fc.array(change, { minLength: 1, maxLength: 3 })).map(([text, changes]) => changes.reduce(changed, text)),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(good, spelling).map(([text, odd]) =>
      text
        .split(".")
        .map((part) => respell(part, odd))
        .join("."),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.array(fc.oneof(fc.constantFrom(".", "e30", "AA", "{}", "A"), letter), { maxLength: 8 }).map((pieces) => pieces.join("")),
  },
);

/** An object of strict JSON, by the platform's decoders; `undefined` for anything else. */
function strictObject(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    const value = JSON.parse(text) as unknown;
    const { repeatedNames, depth, infinite, loneSurrogate } = forgivenBy(text);
    const isStrict = repeatedNames.length === 0 && depth <= JSON_DEPTH_MAX && !infinite && !loneSurrogate;
    return isStrict && typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** The gate a second time: `undefined` where it has to refuse. */
function expectedOf(text: string): Jws | undefined {
  const parts = text.split(".");
  const [headerPart = "", payloadPart = "", signaturePart = ""] = parts;
  if (text.length > JWT_BYTES_MAX || parts.length !== 3 || headerPart === "" || signaturePart === "") return undefined;
  const decoded = parts.map((part) => Buffer.from(part, "base64url"));
  if (decoded.some((bytes, i) => bytes.toString("base64url") !== parts[i])) return undefined;
  const [headerBytes, payloadBytes, signatureBytes] = decoded as [Buffer, Buffer, Buffer];
  const members = strictObject(headerBytes);
  if (members === undefined || Object.keys(members).some((name) => !["alg", "kid", "typ"].includes(name))) return undefined;
  const { alg, kid, typ } = members;
  if (typeof alg !== "string" || !(SUBJECT_TOKEN_ALGORITHMS as readonly string[]).includes(alg)) return undefined;
  if (typ !== undefined && !(typeof typ === "string" && /^(?:application\/)?jwt$/i.test(typ))) return undefined;
  if (kid !== undefined && !(typeof kid === "string" && kid.length >= 1 && kid.length <= KID_CHARACTERS_MAX)) return undefined;
  return {
    header: { alg, kid, typ },
    payload: Uint8Array.from(payloadBytes),
    signature: Uint8Array.from(signatureBytes),
    signingInput: `${headerPart}.${payloadPart}`,
  };
}

describe("parseJws", () => {
  fuzz(
    "passes a token that a second reader passes, takes it apart in the same way, and refuses all others",
    { short: 2500, long: 800_000 },
    [
      "accepted",
      "jwt_malformed",
      "jwt_not_base64url",
      "jwt_not_json",
      "jwt_header_member_unsupported",
      "jwt_algorithm_unsupported",
      "jwt_too_large",
    ],
    token,
    (text, tally) => {
      const jws = parseJws(text, RULES);
      tally.count(jws.ok ? "accepted" : jws.fault.code);
      const expected = expectedOf(text);
      expect(jws.ok).toBe(expected !== undefined);
      if (!jws.ok || expected === undefined) return;
      expect(jws.value.header).toEqual(expected.header);
      expect(jws.value.signingInput).toBe(expected.signingInput);
      for (const part of ["payload", "signature"] as const) expect(Buffer.compare(jws.value[part], expected[part])).toBe(0);
    },
  );

  fuzz(
    "passes no two spellings of one token: what is accepted is, byte for byte, the encoding of what was read (RFC 7515 §2)",
    { short: 1000, long: 500_000 },
    ["accepted", "changed: refused", "changed: accepted"],
    fc.tuple(good, fc.array(change, { minLength: 1, maxLength: 2 }), fc.option(spelling, { nil: null }), fc.nat({ max: 2 })),
    ([text, changes, odd, part], tally) => {
      const jws = parseJws(text, RULES);
      if (!jws.ok) return;
      tally.count("accepted");
      expect(`${jws.value.signingInput}.${base64url(jws.value.signature)}`).toBe(text);
      const parts = text.split(".");
      const other = odd === null ? changes.reduce(changed, text) : parts.map((one, i) => (i === part ? respell(one, odd) : one)).join(".");
      const second = parseJws(other, RULES);
      tally.count(second.ok ? "changed: accepted" : "changed: refused");
      if (!second.ok || other === text) return;
      // Another text is another token: other bytes under the signature, or another signature.
      const same =
        Buffer.compare(second.value.payload, jws.value.payload) === 0 && Buffer.compare(second.value.signature, jws.value.signature) === 0;
      const sameHeader = Buffer.from(other.split(".")[0] ?? "", "base64url").equals(Buffer.from(parts[0] ?? "", "base64url"));
      expect(same && sameHeader).toBe(false);
    },
  );
});

describe("parseClaims", () => {
  fuzz(
    "reads an object of strict JSON, as JSON.parse reads it, and refuses all else",
    { short: 1000, long: 800_000 },
    ["accepted", "jwt_not_json"],
    payload,
    (bytes, tally) => {
      const claims = parseClaims({
        header: { alg: "ES256", kid: undefined, typ: undefined },
        payload: bytes,
        signature: new Uint8Array(),
        signingInput: "",
      });
      tally.count(claims.ok ? "accepted" : claims.fault.code);
      const expected = strictObject(bytes);
      expect(claims.ok).toBe(expected !== undefined);
      if (claims.ok) expect(JSON.stringify(claims.value)).toBe(JSON.stringify(expected));
    },
  );
});
