import { randomBytes } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import type { PartnerStore } from "../storage/store.ts";
import { MASTER_KEY_BYTES, MasterKeys } from "./master-key.ts";
import { secretRehash } from "./secret-rehash.ts";

const [OLD, NEW] = [randomBytes(MASTER_KEY_BYTES), randomBytes(MASTER_KEY_BYTES)];
const old = new MasterKeys([OLD]);
const rotated = new MasterKeys([NEW, OLD]);
const CLIENT = "prt_1";

let nowMs: number;
let writes: Parameters<PartnerStore["rehashSecret"]>[];
let fails: boolean;
const partners: Pick<PartnerStore, "rehashSecret"> = {
  rehashSecret(...write) {
    writes.push(write);
    return fails ? Promise.reject(new Error("away")) : Promise.resolve();
  },
};
beforeEach(() => {
  nowMs = 0;
  writes = [];
  fails = false;
});

const kept = (masterKeys: MasterKeys, secretId = "sec_1") => ({ secretId, ...masterKeys.hashSecret("secret"), createdAtMs: 0 });

describe("a secret that was found right", () => {
  test("under an older master key is written anew, guarded by its old hash, so that the newest one alone finds it", () => {
    const before = kept(old);
    secretRehash(partners, rotated, () => nowMs)({ clientId: CLIENT, secret: before, presented: "secret" });
    expect(writes).toEqual([[CLIENT, "sec_1", before.hash, rotated.hashSecret("secret")]]);
    const after = writes[0]?.[3];
    expect(new MasterKeys([NEW]).findSecret("secret", after === undefined ? [] : [after])).toBe(0);
  });

  test("under the newest one is left as it is", () => {
    secretRehash(partners, rotated, () => nowMs)({ clientId: CLIENT, secret: kept(rotated), presented: "secret" });
    expect(writes).toEqual([]);
  });

  test("is written at most once in a minute, each secret for itself, also where that fails", async () => {
    const rehash = secretRehash(partners, rotated, () => nowMs);
    fails = true;
    for (const at of [0, 1, 59_999]) {
      nowMs = at;
      for (const id of ["sec_1", "sec_2"]) rehash({ clientId: CLIENT, secret: kept(old, id), presented: "secret" });
    }
    expect(writes.map(([, id]) => id)).toEqual(["sec_1", "sec_2"]);
    nowMs = 60_000;
    rehash({ clientId: CLIENT, secret: kept(old), presented: "secret" });
    expect(writes).toHaveLength(3);
    await Promise.resolve(); // a rejection that nobody takes would fail this run
  });
});
