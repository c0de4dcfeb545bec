const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/**
 * One entry for every UTF-16 code unit, so that the loop needs no range check: U+0141 must not pass for "A" (0x41). Only the two or three
 * cache lines of the ASCII letters are ever touched by honest input. −1 marks a foreign character: shifted and OR-ed into a group it makes
 * the group negative, whichever of the four characters it was.
 */
const VALUE_OF_CODE_UNIT = new Int8Array(65_536).fill(-1);
for (let value = 0; value < ALPHABET.length; value += 1) VALUE_OF_CODE_UNIT[ALPHABET.charCodeAt(value)] = value;

const CODE_OF_VALUE = Uint8Array.from(ALPHABET, (letter) => letter.charCodeAt(0));

function valueAt(text: string, position: number): number {
  return VALUE_OF_CODE_UNIT[text.charCodeAt(position)] ?? -1;
}

/**
 * base64url without padding (RFC 4648 §5, RFC 7515 §2), strict and canonical: one byte string has exactly one text. Lenient decoders skip
 * whitespace, take `+/=` and drop the unused trailing bits; a token could then be respelled without breaking its signature, and would be
 * new to a replay store that keys on the text. `undefined`: not canonical base64url. Does NOT bound the length: the caller does.
 */
export function decodeBase64url(text: string): Uint8Array | undefined {
  const { length } = text;
  const rest = length & 3;
  // A single left-over character holds six bits, which is no byte.
  if (rest === 1) return undefined;
  const whole = length - rest;
  const bytes = new Uint8Array((length * 3) >>> 2);
  let written = 0;
  for (let read = 0; read < whole; read += 4) {
    const group = (valueAt(text, read) << 18) | (valueAt(text, read + 1) << 12) | (valueAt(text, read + 2) << 6) | valueAt(text, read + 3);
    if (group < 0) return undefined;
    bytes[written] = group >> 16;
    bytes[written + 1] = group >> 8;
    bytes[written + 2] = group;
    written += 3;
  }
  if (rest === 0) return bytes;
  const tail = (valueAt(text, whole) << 12) | (valueAt(text, whole + 1) << 6) | (rest === 3 ? valueAt(text, whole + 2) : 0);
  // RFC 4648 §3.5: the bits that stand for no byte must be zero; else "QQ" and "QR" would be two spellings of one byte.
  if (tail < 0 || (tail & (rest === 2 ? 0x3ff : 0x3)) !== 0) return undefined;
  bytes[written] = tail >> 10;
  if (rest === 3) bytes[written + 1] = tail >> 2;
  return bytes;
}

/** The one canonical text of these bytes; the inverse of `decodeBase64url`. */
export function encodeBase64url(bytes: Uint8Array): string {
  let text = "";
  for (let read = 0; read < bytes.length; read += 3) {
    const left = bytes.length - read;
    const group = ((bytes[read] ?? 0) << 16) | ((bytes[read + 1] ?? 0) << 8) | (bytes[read + 2] ?? 0);
    const letters = String.fromCharCode(code(group >> 18), code(group >> 12), code(group >> 6), code(group));
    text += left >= 3 ? letters : letters.slice(0, left + 1);
  }
  return text;
}

function code(value: number): number {
  return CODE_OF_VALUE[value & 63] ?? 0;
}

/** The number of a big-endian byte string, as Base64urlUInt holds it (RFC 7518 §2). The empty string is 0. */
export function unsignedFromBytes(bytes: Uint8Array): bigint {
  let hex = "0x0";
  for (const byte of bytes) hex += (byte + 256).toString(16).slice(1);
  return BigInt(hex);
}
