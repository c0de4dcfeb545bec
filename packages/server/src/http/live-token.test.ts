import { describe, expect, test } from "vitest";
import { verifierFor } from "../keys/signature.ts";
import { makeTestKey, signJwt } from "../testing/jwt.ts";
import { ISSUER } from "../testing/server.ts";
import { liveTokens } from "./live-token.ts";

const key = makeTestKey("ES256", "k");
const NOW_MS = 1_800_000_000_000;
const iat = NOW_MS / 1000;
const claims = { iss: ISSUER, sub: "c", aud: "https://api.example", exp: iat + 60, iat, jti: "j", client_id: "c", scope: "s" };
const token = signJwt({ alg: "ES256", typ: "at+jwt", kid: "k" }, claims, key);

/** A reader of tokens whose one key can go; `verified` counts how often a signature was checked. */
function openReader() {
  const verify = verifierFor("ES256", key.publicJwk);
  const state = { verified: 0, isGone: false, generation: 0 };
  const counting = (input: string, signature: Uint8Array) => {
    state.verified += 1;
    return verify(input, signature);
  };
  const notAsked = () => Promise.reject(new Error("not asked: what a token says is in it"));
  const live = liveTokens({
    issuer: ISSUER,
    partners: { find: notAsked },
    accounts: { findLiveUser: notAsked },
    tokens: { findOpaque: notAsked, isRevoked: notAsked },
    hashesOf: () => [],
    keys: {
      findKey: (kid) => (kid === "k" && !state.isGone ? { algorithm: "ES256", verify: counting } : undefined),
      refreshForKid: () => Promise.resolve(false),
      generation: () => state.generation,
    },
    nowMs: () => NOW_MS,
    restoredAtSeconds: undefined,
  });
  const dropKey = () => Object.assign(state, { isGone: true, generation: state.generation + 1 });
  return { findIssued: (text: string) => live.findIssued(text), dropKey, state };
}

describe("what a token says", () => {
  test("is verified once, as long as no key goes", async () => {
    const { findIssued, state } = openReader();
    for (let i = 0; i < 3; i++) expect(await findIssued(token)).toMatchObject({ tokenId: "j" });
    expect(state.verified).toBe(1);
  });

  test("is forgotten when a key goes", async () => {
    const { findIssued, dropKey } = openReader();
    expect(await findIssued(token)).toBeDefined();
    dropKey();
    expect(await findIssued(token)).toBeUndefined();
  });

  test.each([
    ["and nobody asks meanwhile", []],
    ["and another request comes in between", ["another token"]],
  ])("is not remembered where its key goes while it is verified, %s", async (_name, others) => {
    const { findIssued, dropKey } = openReader();
    const reading = findIssued(token);
    dropKey();
    expect(await Promise.all(others.map(findIssued))).toEqual(others.map(() => undefined));
    await reading;
    expect(await findIssued(token)).toBeUndefined();
  });
});
