import { decodeUtf8 } from "@cambist/protocol";
import { z } from "zod";
import { Problem } from "./problem.ts";

/** A part of a form (RFC 7578), as it came. */
export interface FormPart {
  readonly name: string;
  /** As its sender says: to be cleaned by whoever shows it. Undefined: it is no file, but a field of text. */
  readonly fileName: string | undefined;
  /** As its sender says, not looked at. Undefined: it was not said. */
  readonly mediaType: string | undefined;
  /** Byte for byte; shares its memory with the body. */
  readonly content: Uint8Array;
}

/** Of a body's schema: a field that is one file. Whether there is one and no more is checked here; its name, type and size are not. */
export const oneFile = z
  .custom<readonly FormPart[]>((value) => value !== undefined, "received undefined")
  .transform((parts, context): FormPart => {
    const [first] = parts;
    if (parts.length > 1) context.addIssue({ code: "custom", message: "is there more than once" });
    if (first?.fileName === undefined) context.addIssue({ code: "custom", message: "is not a file: its part has no filename" });
    return first as FormPart;
  })
  .meta({ description: "The bytes of a file.", contentMediaType: "application/octet-stream" });

const PARTS_MAX = 20;
const HEADER_BYTES_MAX = 8 * 1024;
const HEADERS_MAX = 10;
const CR = 0x0d;
const LF = 0x0a;
const LINE_END = Buffer.from("\r\n");

const MULTIPART = /^multipart\/form-data(?:;|$)/i;
/** RFC 2046 §5.1.1: at most 70 characters of these, no space at the end. */
const BOUNDARY =
  /^[\w/-]+(?:; ?charset="?utf-8"?)?; ?boundary=(?:([\w'()+,./:=?-]{1,70})|"([\w'()+,./:=? -]{0,69}[\w'()+,./:=?-])")(?:; ?charset="?utf-8"?)?$/i;

/** What stands between the parts. @throws Problem 415 where the body is no form of parts, 400 where it does not say rightly what separates them. */
export function boundaryOf(mediaType: string | undefined): string {
  if (!MULTIPART.test(mediaType ?? "")) throw new Problem(415, "Send the body as Content-Type: multipart/form-data.");
  const found = BOUNDARY.exec(mediaType ?? "");
  const boundary = found?.[1] ?? found?.[2];
  if (boundary === undefined) throw malformed("its Content-Type has no boundary of 1 to 70 characters (RFC 2046 §5.1.1)");
  return boundary;
}

/**
 * The parts by their names, in order. Strict, so that nobody reads it otherwise: nothing before the first part or behind the last, lines end in CR LF,
 * no header twice, and no line of a content that begins as a boundary does. Content is taken as it is: one that was coded to be sent is refused.
 * @throws Problem 400, or 422 for more than PARTS_MAX parts, which are not looked at.
 */
export function parseMultipart(boundary: string, body: Buffer): Readonly<Record<string, readonly FormPart[]>> {
  const delimiter = Buffer.from(`\r\n--${boundary}`, "latin1");
  const parts = new Map<string, FormPart[]>();
  if (!body.subarray(0, delimiter.length - 2).equals(delimiter.subarray(2))) throw malformed("it does not begin with its boundary");
  let at = delimiter.length - 2;
  for (let count = 0; !isEnd(body, at); count++) {
    if (count === PARTS_MAX) throw new Problem(422, `The form has over ${PARTS_MAX} parts.`);
    if (body[at] !== CR || body[at + 1] !== LF) throw malformed("the line of a boundary is not whole, or holds more than that");
    const end = body.indexOf(delimiter, at + 2);
    if (end < 0) throw malformed("it breaks off: is Content-Length right?");
    const part = parsePart(body.subarray(at + 2, end));
    parts.set(part.name, [...(parts.get(part.name) ?? []), part]);
    at = end + delimiter.length;
  }
  return Object.fromEntries(parts);
}

/** Whether the last boundary was the closing one. @throws Problem 400 where something stands behind that. */
function isEnd(body: Buffer, at: number): boolean {
  if (body.toString("latin1", at, at + 2) !== "--") return false;
  const rest = body.subarray(at + 2);
  if (rest.length > 0 && !rest.equals(LINE_END)) throw malformed("something stands behind its end");
  return true;
}

function parsePart(part: Buffer): FormPart {
  const head = part.subarray(0, HEADER_BYTES_MAX);
  const end = head.indexOf("\r\n\r\n");
  if (end < 0) throw malformed(`a part has no end of its headers within ${HEADER_BYTES_MAX} bytes`);
  const headers = parseHeaders(head.subarray(0, end));
  const coding = headers.get("content-transfer-encoding")?.toLowerCase() ?? "binary";
  if (!["7bit", "8bit", "binary"].includes(coding))
    throw malformed("a part has a Content-Transfer-Encoding (RFC 7578 §4.7); send the file as it is");
  const { name, fileName } = parseDisposition(headers.get("content-disposition") ?? "");
  return { name, fileName, mediaType: headers.get("content-type"), content: part.subarray(end + 4) };
}

/** By their names in lower case. Folded ones (RFC 5322 §2.2.3) have a line that is none. */
function parseHeaders(head: Buffer): ReadonlyMap<string, string> {
  const text = decodeUtf8(head);
  if (text === undefined) throw malformed("the headers of a part are not UTF-8");
  const lines = text.split("\r\n");
  if (lines.length > HEADERS_MAX) throw malformed(`a part has over ${HEADERS_MAX} headers`);
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, name = "", value = ""] = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([^\r\n]*)$/.exec(line) ?? [];
    if (name === "" || headers.has(name.toLowerCase())) throw malformed("a header of a part is there twice, or is none");
    headers.set(name.toLowerCase(), value.trimEnd());
  }
  return headers;
}

const DISPOSITION = /^form-data(?=;)/i;
/** A quoted value may have `\"` in it, as some clients write a quote; a backslash before anything else stands for itself. */
const PARAMETER = /;[ \t]*([\w!#$&+.^`|~-]+\*?)=(?:"((?:[^"\\]|\\["\\]|\\(?!["\\]))*)"|([\w!#$%&'*+.^`|~-]+))[ \t]*/y;

/** RFC 7578 §4.2. `filename*` (RFC 8187) should not be there, and is sent by some all the same; it goes before `filename` (RFC 6266 §4.3). */
function parseDisposition(value: string): Pick<FormPart, "name" | "fileName"> {
  const parameters = new Map<string, string>();
  PARAMETER.lastIndex = DISPOSITION.exec(value)?.[0].length ?? value.length;
  while (PARAMETER.lastIndex < value.length) {
    const found = PARAMETER.exec(value);
    const key = found?.[1]?.toLowerCase();
    if (found === null || key === undefined || parameters.has(key)) throw malformed("a part has a Content-Disposition that cannot be read");
    parameters.set(key, found[2] === undefined ? (found[3] ?? "") : unquoted(found[2]));
  }
  const name = parameters.get("name");
  if (name === undefined) throw malformed("a part has no Content-Disposition: form-data with a name");
  const extended = parameters.get("filename*");
  return { name, fileName: extended === undefined ? parameters.get("filename") : decodeExtended(extended) };
}

/** Browsers write a quote and the ends of lines as these three, and no other character so (HTML, "multipart/form-data encoding algorithm"). */
function unquoted(text: string): string {
  return text.replaceAll(/\\(["\\])/g, "$1").replaceAll(/%(?:22|0D|0A)/gi, decodeURIComponent);
}

/** RFC 8187 §3.2. */
function decodeExtended(value: string): string {
  const encoded = /^utf-8'[\w-]*'((?:%[\da-f]{2}|[\w!#$&+.^`|~-])*)$/i.exec(value)?.[1];
  try {
    if (encoded !== undefined) return decodeURIComponent(encoded);
  } catch {
    // its bytes are not UTF-8
  }
  throw malformed("a part has a filename* that is not UTF-8");
}

function malformed(why: string): Problem {
  return new Problem(400, `The form is malformed: ${why}.`);
}
