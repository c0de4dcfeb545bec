import { Problem } from "./problem.ts";

const ENTITY_TAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"$/;

/**
 * If-Match (RFC 9110 §13.1.1): the revisions of which the stored one must be one; undefined: any. A weak tag never matches.
 * @throws Problem 400 where it is no list of entity tags: a condition that is not understood must not pass.
 */
export function parseIfMatch(header: string | undefined): readonly string[] | undefined {
  if (header === undefined || header.trim() === "*") return undefined;
  const tags = header.split(",").map((tag) => ENTITY_TAG.exec(tag.trim())); // no tag of ours has a comma in it
  if (tags.includes(null)) throw new Problem(400, 'If-Match must be * or the ETag of an answer, in its quotes: If-Match: "…"');
  return tags.flatMap((tag) => (tag === null || tag[1] !== undefined ? [] : [tag[2] ?? ""]));
}

/** RFC 9110 §8.8.3, a strong one. */
export function entityTag(revision: string): string {
  return `"${revision}"`;
}
