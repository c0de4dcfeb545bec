import { takeInJwks } from "@cambist/protocol";
import { describe, expect, test } from "vitest";
import type { FetchedJwks } from "../storage/store.ts";
import { makeTestKey } from "../testing/jwt.ts";
import { afterFailure, afterSuccess, readJwks, vanishedKids } from "./fetched-keys.ts";

const [A, B, C] = ["a", "b", "c"].map((kid) => makeTestKey("ES256", kid).publicJwk) as [object, object, object];
const bytes = (value: unknown) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));

/** One good answer after the other, a second apart. */
function history(...sets: readonly object[][]): FetchedJwks {
  let jwks: FetchedJwks | undefined;
  for (const [second, keys] of sets.entries()) {
    const intake = takeInJwks({ keys });
    if (!intake.ok) throw new Error(intake.fault.code);
    jwks = afterSuccess(jwks, intake.value, second * 1000, second * 1000 + 60_000);
  }
  return jwks as FetchedJwks;
}

const states = (jwks: FetchedJwks) =>
  jwks.keys.map(({ kid, state, firstSeenAtMs, lastSeenAtMs }) => [kid, state, firstSeenAtMs / 1000, lastSeenAtMs / 1000]);

describe("the body of an answer", () => {
  test("is a set with a usable key, whatever else is in it", () => {
    const read = readJwks(bytes({ keys: [{ kty: "oct", k: "AAAA" }, A] }), "a fault");
    expect(read).toMatchObject({ ok: true, value: { used: [{ kid: "a" }], refused: [{ index: 0 }] } });
  });

  test.each([
    ["HTML", "<html>", "not_json", "its answer is not JSON"],
    ["nothing", "", "not_json", "its answer is not JSON"],
    ["a byte order mark", `\ufeff${JSON.stringify({ keys: [A] })}`, "not_json", "its answer is not JSON"],
    ["a name twice", `{"keys":[],"keys":[]}`, "not_json", "its answer is not JSON"],
    ["another object", {}, "not_a_jwks", "This is not a JWK set; publish a JSON object with an array 'keys' (RFC 7517 section 5)"],
    ["an empty set", { keys: [] }, "no_usable_key", "its key set has no usable key: it is empty"],
    [
      "51 keys",
      { keys: Array.from({ length: 51 }, () => A) },
      "not_a_jwks",
      "The set has 51 keys; publish at most 50, and remove those that you no longer sign with",
    ],
    [
      "a set of unusable keys",
      { keys: [{ kty: "EC", crv: "P-521" }] },
      "no_usable_key",
      "its key set has no usable key: The curve 'P-521' is not supported for EC; use EC with P-256 or P-384, or OKP with Ed25519",
    ],
  ])("is refused where it is %s, with the reason", (_what, body, code, sentence) => {
    expect(readJwks(bytes(body), "a fault")).toEqual({ ok: false, fault: { code, sentence } });
  });

  test("may be a set without a usable key where that is asked for, but no less than a set", () => {
    for (const unusable of ["a set of refused keys", "a set"] as const) {
      expect(readJwks(bytes({ keys: [{ kty: "EC" }] }), unusable)).toMatchObject({ ok: true, value: { used: [], refused: [{}] } });
      expect(readJwks(bytes({}), unusable)).toMatchObject({ ok: false, fault: { code: "not_a_jwks" } });
    }
    expect(readJwks(bytes({ keys: [] }), "a set")).toMatchObject({ ok: true, value: { used: [] } });
    expect(readJwks(bytes({ keys: [] }), "a set of refused keys")).toMatchObject({ ok: false, fault: { code: "no_usable_key" } });
  });

  test("is refused where it is not UTF-8", () => {
    expect(readJwks(Buffer.from([0x7b, 0xff, 0x7d]), "a set")).toMatchObject({ ok: false, fault: { code: "not_json" } });
  });
});

describe("what is known of each key", () => {
  test("when it first and last appeared, through a rotation with overlap", () => {
    expect(states(history([A], [A], [A, B], [B]))).toEqual([
      ["b", "used", 2, 3],
      ["a", "gone", 0, 2],
    ]);
  });

  test("a key that comes back is the one that it was; another key under its kid is not", () => {
    expect(states(history([A], [B], [A]))).toEqual([
      ["a", "used", 0, 2],
      ["b", "gone", 1, 1],
    ]);
    expect(states(history([A], [{ ...B, kid: "a" }]))).toEqual([
      ["a", "used", 1, 1],
      ["a", "gone", 0, 0],
    ]);
  });

  test("a refused key with its reason, and it is forgotten when it goes", () => {
    const refused = { kty: "RSA", kid: "weak", n: "AQAB", e: "AQAB" };
    const jwks = history([A, refused]);
    expect(jwks.keys[1]).toMatchObject({ kid: "weak", state: "refused", reason: expect.stringMatching(/bits/), jwk: null });
    expect(states(history([A, refused], [A]))).toEqual([["a", "used", 0, 1]]);
  });

  test("at most 20 that are gone, the latest ones", () => {
    const sets = Array.from({ length: 30 }, (_, index) => [{ ...A, kid: `k${index}` }]);
    const kids = history(...sets).keys.map(({ kid }) => kid);
    expect(kids).toEqual(["k29", ...Array.from({ length: 20 }, (_, index) => `k${28 - index}`)]);
  });

  test("a failure keeps what is known, and a success after it keeps the failure on record", () => {
    const failed = afterFailure(history([A]), "it answered 500", 9000);
    expect(failed).toMatchObject({ keys: [{ kid: "a", state: "used" }], fetchedAtMs: 0, failedAtMs: 9000, failure: "it answered 500" });
    expect(afterFailure(undefined, "x", 1)).toEqual({
      keys: [],
      fetchedAtMs: undefined,
      freshUntilMs: undefined,
      failedAtMs: 1,
      failure: "x",
    });
  });
});

describe("keys that vanish without overlap", () => {
  const vanished = (before: object[] | undefined, after: object[]) =>
    vanishedKids(before && history(before), history(...(before ? [before] : []), after));

  test("are named: all old ones at once, for new ones", () => {
    expect(vanished([A], [B])).toEqual(["a"]);
    expect(vanished([A, B], [C])).toEqual(["a", "b"]);
    expect(vanished([A], [{ ...B, kid: "a" }])).toEqual(["a"]);
  });

  test("are none at the first fetch, in a rotation, or where the set stays", () => {
    expect(vanished(undefined, [A])).toEqual([]);
    expect(vanished([A], [A, B])).toEqual([]);
    expect(vanished([A, B], [B])).toEqual([]);
    expect(vanished([A], [A])).toEqual([]);
  });
});
