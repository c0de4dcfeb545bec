import { makeTestKey, type TestAlgorithm, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import { createTestPartner, type TestPartner, type TestServer } from "../../packages/server/src/testing/server.ts";

/** A key for each algorithm. */
export const KEYS: Record<TestAlgorithm, TestKey> = {
  RS256: makeTestKey("RS256"),
  PS256: makeTestKey("PS256"),
  ES256: makeTestKey("ES256"),
  ES384: makeTestKey("ES384"),
  EdDSA: makeTestKey("EdDSA"),
};
export const ALGORITHMS = Object.keys(KEYS) as TestAlgorithm[];

/** One partner for each algorithm, with that one key. */
export async function createPartnerPerAlgorithm(server: TestServer): Promise<Record<TestAlgorithm, TestPartner>> {
  const partners = {} as Record<TestAlgorithm, TestPartner>;
  for (const algorithm of ALGORITHMS) partners[algorithm] = await createTestPartner(server, {}, KEYS[algorithm]);
  return partners;
}
