import { JWT_BYTES_MAX, KID_CHARACTERS_MAX } from "../constants.ts";
import type { GateFault, JwtPart } from "../refusals.ts";
import { fail, ok, type Result } from "../result.ts";
import { decodeBase64url } from "./base64url.ts";
import { isJsonObject, type JsonObject, type JsonValue, parseStrictJson } from "./strict-json.ts";
import { decodeUtf8 } from "./utf8.ts";

/** The header members that are understood; the header is closed to all others. */
export interface JwsHeader {
  readonly alg: string;
  readonly kid: string | undefined;
  readonly typ: string | undefined;
}

/** A compact JWS that has passed the gate. Its signature is NOT verified. */
export interface Jws {
  readonly header: JwsHeader;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  /** header.payload as it was sent, ASCII: what the signature is over (RFC 7515 §5.2). */
  readonly signingInput: string;
}

/** What stands between a token from outside and everything that reads it. */
export interface GateRules {
  readonly algorithms: readonly string[];
  /** The media subtype that `typ` must be, lower case; `optional` lets it be absent. */
  readonly typ: { readonly name: string; readonly optional: boolean };
}

const HEADER_MEMBERS = new Set(["alg", "kid", "typ"]);

/**
 * A compact JWS: size, three parts, canonical base64url, strict JSON header of known members only, alg in the allowed list, typ as
 * expected (RFC 7515 §5.2, RFC 8725 §3.1 §3.11). Stops alg:none and HMAC confusion, keys brought along (jwk, jku, x5c), crit and
 * b64, JWE, the JSON serializations, and the second spellings of one signature that lenient base64url decoders let through.
 * Does NOT verify the signature and does NOT read the payload.
 */
export function parseJws(token: string, rules: GateRules): Result<Jws, GateFault> {
  if (token.length > JWT_BYTES_MAX) return fail({ code: "jwt_too_large", bytesMax: JWT_BYTES_MAX });
  const first = token.indexOf(".");
  const second = token.indexOf(".", first + 1);
  if (first < 1 || second < 0 || second === token.length - 1 || token.includes(".", second + 1)) return fail(misshapen(token));

  const headerBytes = decodeBase64url(token.slice(0, first));
  if (headerBytes === undefined) return fail({ code: "jwt_not_base64url", part: "header" });
  const payload = decodeBase64url(token.slice(first + 1, second));
  if (payload === undefined) return fail({ code: "jwt_not_base64url", part: "payload" });
  const signature = decodeBase64url(token.slice(second + 1));
  if (signature === undefined) return fail({ code: "jwt_not_base64url", part: "signature" });

  const members = parseJsonObject(headerBytes, "header");
  if (!members.ok) return members;
  const header = readHeader(members.value, rules);
  return header.ok ? ok({ header: header.value, payload, signature, signingInput: token.slice(0, second) }) : header;
}

/** The payload as a strict JSON object. Call it after the signature is verified. */
export function parseClaims(jws: Jws): Result<JsonObject, GateFault> {
  return parseJsonObject(jws.payload, "payload");
}

function misshapen(token: string): GateFault {
  const segments = token.split(".", 6).length;
  return segments === 5 ? { code: "jwt_encrypted" } : { code: "jwt_malformed", segments };
}

function parseJsonObject(bytes: Uint8Array, part: JwtPart): Result<JsonObject, GateFault> {
  const text = decodeUtf8(bytes);
  if (text === undefined) return fail({ code: "jwt_not_json", part, fault: { code: "not_utf8" } });
  const parsed = parseStrictJson(text);
  if (!parsed.ok) return fail({ code: "jwt_not_json", part, fault: parsed.fault });
  if (!isJsonObject(parsed.value)) return fail({ code: "jwt_not_json", part, fault: { code: "not_an_object" } });
  return ok(parsed.value);
}

function readHeader(members: JsonObject, rules: GateRules): Result<JwsHeader, GateFault> {
  for (const name in members) {
    if (!HEADER_MEMBERS.has(name)) return fail({ code: "jwt_header_member_unsupported", member: name });
  }
  const { alg, kid, typ } = members;
  if (typeof alg !== "string" || !rules.algorithms.includes(alg)) return fail({ code: "jwt_algorithm_unsupported", got: asText(alg) });
  if (!isTyp(typ, rules.typ)) return fail({ code: "jwt_typ_unexpected", got: asText(typ) });
  if (kid !== undefined && (typeof kid !== "string" || kid === "" || kid.length > KID_CHARACTERS_MAX)) {
    return fail({ code: "jwt_kid_malformed" });
  }
  return ok({ alg, kid, typ });
}

/** RFC 7515 §4.1.9: a media type, so any letter case, and `application/` may be left out. */
function isTyp(typ: JsonValue | undefined, expected: GateRules["typ"]): typ is string | undefined {
  if (typ === undefined) return expected.optional;
  if (typeof typ !== "string") return false;
  const name = typ.toLowerCase();
  return name === expected.name || name === `application/${expected.name}`;
}

function asText(value: JsonValue | undefined): string {
  if (typeof value === "string") return value;
  return value === undefined ? "" : `a JSON ${value === null ? "null" : Array.isArray(value) ? "array" : typeof value}`;
}
