/**
 * Bytes as UTF-8 (RFC 3629), strictly: undefined for anything malformed, overlong or a lone surrogate, where a lenient decoder would
 * put U+FFFD and let two different inputs become one. A byte order mark is kept, so that the JSON parser refuses it (RFC 8259 §8.1).
 */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  let escaped = "";
  let start = 0; // of the run of plain characters
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    if (byte < 0x80 && byte !== PERCENT) continue;
    escaped += asciiToString(bytes.subarray(start, i)) + (ESCAPES[byte] as string);
    start = i + 1;
  }
  const rest = asciiToString(bytes.subarray(start));
  if (start === 0) return rest;
  try {
    return decodeURIComponent(escaped + rest); // the one strict UTF-8 decoder in the language itself (ECMA-262 §19.2.6.5)
  } catch {
    return undefined;
  }
}

const PERCENT = 0x25;
const ESCAPES = Array.from({ length: 256 }, (_, byte) => `%${byte.toString(16).padStart(2, "0")}`);

const CHUNK_BYTES = 4096;

function asciiToString(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += CHUNK_BYTES) {
    text += String.fromCharCode.apply(null, bytes.subarray(i, i + CHUNK_BYTES) as unknown as number[]);
  }
  return text;
}
