import { randomBytes } from "node:crypto";
import type { AccessTokenAlgorithm } from "@cambist/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { NOW, openTestStore, type TestStore } from "../testing/store.ts";
import { type Keyring, openKeyring } from "./keyring.ts";
import { MASTER_KEY_BYTES, MasterKeys } from "./master-key.ts";

/* A store that was used with another algorithm before: nothing but a switch ever ends its keys. */
describe.each(DIALECTS)("signing keys of an algorithm that was configured before, on %s", (dialect) => {
  const masterKeys = new MasterKeys([randomBytes(MASTER_KEY_BYTES)]);
  const keyrings: Keyring[] = [];
  let opened: TestStore;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
  });
  afterEach(async () => {
    for (const keyring of keyrings.splice(0)) await keyring.close();
    await opened.database.query("DELETE FROM signing_keys");
  });
  afterAll(() => opened.close());

  async function open(algorithm: AccessTokenAlgorithm): Promise<Keyring> {
    const ignore = () => undefined;
    const events = { scheduled: ignore, switched: ignore, readFailed: ignore, notOpened: ignore };
    const store = opened.nodes[0].signingKeys;
    const keyring = await openKeyring({ store, masterKeys, algorithm, signingKeyDays: 90, nowMs: () => NOW, events });
    keyrings.push(keyring);
    return keyring;
  }
  const publishedBy = (keyring: Keyring) => keyring.jwks().keys.map(({ alg }) => alg);

  test("verify until the first switch and as long after it as a token may live, and their private halves are gone", async () => {
    const former = (await open("RS256")).signer().kid;
    const keyring = await open("ES256");
    expect(keyring.findKey(former)).toBeDefined();
    await keyring.switchNow("retire");
    expect(keyring.findKey(former)).toBeDefined();
    const rows = await opened.database.query(
      "SELECT state, drop_after, length(private_key_sealed) AS bytes, sealing_key_id FROM signing_keys WHERE algorithm = 'RS256'",
    );
    const retired = { state: "retired", drop_after: expect.any(Number), bytes: 0, sealing_key_id: "" };
    expect(rows).toEqual([retired, retired]);
    for (const { drop_after: dropAfter } of rows) expect(dropAfter).toBeGreaterThanOrEqual(NOW + 86_400_000);
  });

  test("verify and are published no more after an emergency, whether or not they were retired before it", async () => {
    for (const isRetiredBefore of [true, false]) {
      const leaked = (await open("RS256")).signer().kid;
      const keyring = await open("ES256");
      if (isRetiredBefore) await keyring.switchNow("retire");
      await keyring.switchNow("drop");
      expect(keyring.findKey(leaked)).toBeUndefined();
      expect(publishedBy(keyring)).toEqual(["ES256", "ES256"]);
    }
  });
});
