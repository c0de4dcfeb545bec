import { createHash } from "node:crypto";
import type { AccountAnswer, AccountStore, AccountWriter, IdempotentRequest, Repeated } from "../storage/account-store.ts";
import { Problem, problemAnswer } from "./problem.ts";
import type { Answer, RawRequest } from "./route.ts";

const KEY_CHARACTERS_MAX = 255;
/** What says something about what is stored, and not about the request: the same request may get no other answer later. */
const KEPT_REFUSALS = new Set([404, 409, 412]);

export interface WriteDeps {
  readonly accounts: Pick<AccountStore, "write" | "writeOnce" | "beginOnce">;
  readonly nowMs: () => number;
}

/** A call of a route that writes. */
export interface Attempt {
  readonly operationId: string;
  readonly partnerId: string;
  readonly raw: RawRequest;
}

/**
 * One write of a partner, in one transaction: the work, and with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header-07) the answer that a
 * repetition of it gets for 24 h, be it a success or a refusal (404, 409, 412). A fault of the input, and a 503, are not kept.
 * @throws Problem 400 for a malformed key, 422 for one that came with another request, 409 for one whose answer is erased; and what `work` throws.
 */
export async function writeOnce(call: Attempt, deps: WriteDeps, work: (writer: AccountWriter) => Promise<AccountAnswer>): Promise<Answer> {
  const request = idempotentRequest(call, deps.nowMs());
  if (request === undefined) return deps.accounts.write(work);
  return toAnswer(await deps.accounts.writeOnce(request, work, keptRefusal(call)));
}

/**
 * The first step of a write that takes many transactions; {@link writeOnce} is its last. With it the key is taken: a repetition goes on with the
 * entity that the step has named, and another request with that key does nothing.
 * @throws Problem as {@link writeOnce}.
 */
export async function beginOnce(
  call: Attempt,
  deps: WriteDeps,
  first: (writer: AccountWriter) => Promise<string>,
): Promise<{ readonly entityId: string } | { readonly answer: Answer }> {
  const request = idempotentRequest(call, deps.nowMs());
  if (request === undefined) return { entityId: await deps.accounts.write(first) };
  const outcome = await deps.accounts.beginOnce(request, first, keptRefusal(call));
  return outcome.code === "begun" ? outcome : { answer: toAnswer(outcome) };
}

function keptRefusal({ raw }: Attempt): (thrown: unknown) => AccountAnswer | undefined {
  return (thrown) => (thrown instanceof Problem && KEPT_REFUSALS.has(thrown.status) ? problemAnswer(thrown, raw.traceId) : undefined);
}

function toAnswer(outcome: Repeated): Answer {
  switch (outcome.code) {
    case "answered":
      return outcome.answer;
    case "other_request":
      throw new Problem(422, "This Idempotency-Key came with another request before; use a new one for each request.", {
        fields: [{ field: "Idempotency-Key", message: "came with another request before" }],
      });
    case "erased":
      throw new Problem(409, "This request was answered before, and what it was about has been erased; use a new Idempotency-Key.");
    case "begun":
      throw new Error("a request that has begun is gone on with, and answered");
  }
}

/** The key counts for one partner and operation; the query, the condition and the body, byte by byte, are what it came with. */
function idempotentRequest({ operationId, partnerId, raw }: Attempt, nowMs: number): IdempotentRequest | undefined {
  if (raw.idempotencyKey === undefined) return undefined;
  const name = `${operationId}\n${parseKey(raw.idempotencyKey)}`;
  const query = raw.url.includes("?") ? raw.url.slice(raw.url.indexOf("?")) : "";
  const asked = `${query}\n${raw.ifMatch ?? ""}\n${raw.body}`;
  return { partnerId, key: sha256(name).subarray(0, 16), fingerprint: sha256(asked), nowMs };
}

const BARE = /^[\x21-\x7e]+$/;
const QUOTED = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/;

/** A string of RFC 8941 §3.3.3, as the draft has it, or the bare key, which is what most clients send. */
function parseKey(header: string): string {
  const quoted = QUOTED.exec(header)?.[1]?.replaceAll(/\\(["\\])/g, "$1");
  const key = quoted ?? header;
  if (!BARE.test(key) || key.length > KEY_CHARACTERS_MAX) {
    throw new Problem(400, `Idempotency-Key must be 1 to ${KEY_CHARACTERS_MAX} visible ASCII characters, sent once; a UUID is a good one.`);
  }
  return key;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text, "latin1").digest();
}
