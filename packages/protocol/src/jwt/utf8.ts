/**
 * Bytes as UTF-8 (RFC 3629), strictly: undefined for anything malformed, overlong or a lone surrogate, where a lenient decoder would
 * put U+FFFD and let two different inputs become one. A byte order mark is kept, so that the JSON parser refuses it (RFC 8259 §8.1).
 */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  const plain = asciiToString(bytes);
  if (plain !== undefined) return plain;
  let escaped = "";
  for (const byte of bytes) {
    escaped += byte < 0x80 && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0")}`;
  }
  try {
    return decodeURIComponent(escaped); // the one strict UTF-8 decoder in the language itself (ECMA-262 §19.2.6.5)
  } catch {
    return undefined;
  }
}

const CHUNK_BYTES = 4096;

function asciiToString(bytes: Uint8Array): string | undefined {
  for (let i = 0; i < bytes.length; i++) {
    if ((bytes[i] as number) >= 0x80) return undefined;
  }
  let text = "";
  for (let i = 0; i < bytes.length; i += CHUNK_BYTES) {
    text += String.fromCharCode.apply(null, bytes.subarray(i, i + CHUNK_BYTES) as unknown as number[]);
  }
  return text;
}
