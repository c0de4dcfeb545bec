import type { JwtFault, JwtPart } from "../../packages/protocol/src/refusals.ts";
import { type Asked, type Explanation, weRefuse } from "./explanation.ts";
import { type Forgiven, forgivenBy, type LenientPart } from "./lenient.ts";

/** Size, base64url, JSON and the header. */

type Base64Fault = Extract<JwtFault, { code: "jwt_not_base64url" }>;
type JsonFault = Extract<JwtFault, { code: "jwt_not_json" }>;

/** Where our fault says that it is, or anywhere. */
const partsOf = ({ token }: Asked, part: JwtPart | undefined): LenientPart[] =>
  part === undefined ? [token.header, token.payload, token.signature] : [token[part]];

function spelling(name: string, isSo: (segment: string) => boolean, why: string): Explanation {
  return weRefuse(
    name,
    ["jwt_not_base64url"],
    (asked, fault?: Base64Fault) => partsOf(asked, fault?.part).some(({ segment, bytes }) => bytes !== undefined && isSo(segment)),
    why,
  );
}

function json(name: string, code: JsonFault["fault"]["code"], isSo: (forgiven: Forgiven, fault?: JsonFault) => boolean, why: string) {
  return weRefuse(
    name,
    ["jwt_not_json"],
    (asked, fault?: JsonFault) =>
      (fault === undefined || fault.fault.code === code) &&
      partsOf(asked, fault?.part).some(({ text, members }) => text !== undefined && members !== undefined && isSo(forgivenBy(text), fault)),
    why,
  );
}

const startsWithMark = (bytes: Uint8Array = new Uint8Array()): boolean => bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;

const UNDERSTOOD = new Set(["alg", "kid", "typ"]);

export const TEXT_EXPLANATIONS: readonly Explanation[] = [
  weRefuse(
    "a token over 16 KiB",
    ["jwt_too_large"],
    ({ question }) => question.token.length > 16_384,
    "jose has no limit, and RFC 7519 sets none; ours keeps a token from buying work before it is refused.",
  ),
  spelling(
    "whitespace in base64url",
    (segment) => /[\t\n\f\r ]/.test(segment),
    "jose decodes by atob, which skips whitespace; RFC 7515 §2 has base64url with no line breaks, whitespace, or other additional characters.",
  ),
  spelling(
    "padding in base64url",
    (segment) => segment.includes("="),
    "jose decodes by atob, which takes padding; RFC 7515 §2 has base64url with all trailing = characters omitted.",
  ),
  spelling(
    "spare bits in base64url",
    (segment) => /^[\w-]+$/.test(segment) && Buffer.from(segment, "base64url").toString("base64url") !== segment,
    "jose decodes by atob, which drops the bits of the last letter that stand for no byte; RFC 4648 §3.5 lets a decoder refuse them, and a replay store that keys on the text must.",
  ),
  weRefuse(
    "a byte order mark before the JSON",
    ["jwt_not_json"],
    (asked, fault?: JsonFault) =>
      (fault === undefined || (fault.fault.code === "syntax" && fault.fault.at === 0)) &&
      partsOf(asked, fault?.part).some(({ bytes, members }) => members !== undefined && startsWithMark(bytes)),
    "jose decodes by TextDecoder, which drops the mark; RFC 8259 §8.1 has no mark in JSON that is sent, and lets a parser refuse it.",
  ),
  json(
    "a name twice in one JSON object",
    "name_repeated",
    ({ repeatedNames }, fault) =>
      fault?.fault.code === "name_repeated" ? repeatedNames.includes(fault.fault.name) : repeatedNames.length > 0,
    "jose reads by JSON.parse, which takes the last of two members of one name; RFC 7515 §4 and RFC 7519 §4 let a parser refuse them, and readers that take the first would see another token.",
  ),
  json(
    "JSON nested deeper than 32",
    "too_deep",
    ({ depth }) => depth > 32,
    "jose reads by JSON.parse, which has no limit; RFC 8259 §9 lets a parser set one.",
  ),
  json(
    "a JSON number that is not finite",
    "number_not_finite",
    ({ infinite }) => infinite,
    "jose reads by JSON.parse, which makes Infinity of 1e400, an exp that never comes; RFC 7493 §2.2 (I-JSON) has no such numbers.",
  ),
  json(
    "half a surrogate pair in JSON",
    "lone_surrogate",
    ({ loneSurrogate }) => loneSurrogate,
    "jose reads by JSON.parse, which keeps \\ud800; RFC 7493 §2.1 forbids it, and it cannot be stored as UTF-8, so two of them could become one name.",
  ),
  weRefuse(
    "an unknown header member",
    ["jwt_header_member_unsupported"],
    ({ token }, fault) =>
      Object.keys(token.header.members ?? {}).some((name) => !UNDERSTOOD.has(name) && (fault === undefined || fault.member === name)),
    "jose ignores what it does not know, as RFC 7515 §4 has it; our header is closed on purpose, so that jwk, jku, x5c, zip and whatever comes next have no reader (RFC 8725 §3.10).",
  ),
  weRefuse(
    "the typ of another kind of token",
    ["jwt_typ_unexpected"],
    ({ token }) => {
      const typ = token.header.members?.["typ"];
      return typ !== undefined && !(typeof typ === "string" && /^(?:application\/)?jwt$/i.test(typ));
    },
    "jose looks at typ only where it is told to demand one, and then refuses a token without; RFC 8725 §3.11 keeps tokens of different kinds apart by it, and partners leave it out.",
  ),
  weRefuse(
    "a kid of more than 255 characters",
    ["jwt_kid_malformed"],
    ({ token }) => {
      const kid = token.header.members?.["kid"];
      return typeof kid === "string" && kid.length > 255;
    },
    "RFC 7515 §4.1.4 does not bound a kid; we do, for it is logged and recorded.",
  ),
];
