import { Problem } from "./problem.ts";

const ENTITY_TAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"$/;

/**
 * If-Match (RFC 9110 §13.1.1): the revisions of which the stored one must be one; undefined: any. A weak tag never matches.
 * @throws Problem 400 where it is no list of entity tags: a condition that is not understood must not pass.
 */
export function parseIfMatch(header: string | undefined): readonly string[] | undefined {
  if (header === undefined || header.trim() === "*") return undefined;
  const elements = header.split(",").map((element) => element.trim()); // no tag of ours has a comma in it
  const tags = elements.filter((element) => element !== "").map((element) => ENTITY_TAG.exec(element)); // RFC 9110 §5.6.1.2
  if (tags.length === 0 || tags.includes(null))
    throw new Problem(400, 'If-Match must be * or the ETag of an answer, in its quotes: If-Match: "…"');
  return tags.flatMap((tag) => (tag === null || tag[1] !== undefined ? [] : [tag[2] ?? ""]));
}

/** RFC 9110 §8.8.3, a strong one. */
export function entityTag(revision: string): string {
  return `"${revision}"`;
}
