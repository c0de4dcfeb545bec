import { StoreUnavailable } from "@cambist/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import type { StoredScope } from "../storage/token-store.ts";
import { ScopeCatalog } from "./scope-catalog.ts";

const OURS = "https://cambist.test/v2";
const NAME = "files";
const scopeFor = (audience: string): StoredScope => ({
  name: NAME,
  principal: "user",
  audience,
  resourceServerId: "rs",
  description: "",
  createdAtMs: 0,
});

/** Reads of the store, each answered when the test says so. */
let reads: { answer(audience: string): void; fail(error: Error): void }[];
let nowMs: number;
let catalog: ScopeCatalog;
beforeEach(() => {
  reads = [];
  nowMs = 0;
  const listScopes = () =>
    new Promise<readonly StoredScope[]>((resolve, reject) =>
      reads.push({ answer: (audience) => resolve([scopeFor(audience)]), fail: reject }),
    );
  catalog = new ScopeCatalog({ store: { listScopes }, resource: OURS, nowMs: () => nowMs });
});

const audienceOf = async (found: ReturnType<ScopeCatalog["find"]>) => (await found).find(({ name }) => name === NAME)?.audience;

async function readAs(audience: string): Promise<void> {
  const reading = catalog.find([NAME]);
  reads.at(-1)?.answer(audience);
  expect(await audienceOf(reading)).toBe(audience);
}

describe("the catalogue of scopes", () => {
  test("is read once for all that ask at once, and for five seconds", async () => {
    const asking = [catalog.find([NAME]), catalog.find([NAME])];
    reads[0]?.answer("https://one.example");
    for (const found of asking) expect(await audienceOf(found)).toBe("https://one.example");
    nowMs = 4_999;
    expect(await audienceOf(catalog.find([NAME]))).toBe("https://one.example");
    expect(reads).toHaveLength(1);
    nowMs = 5_000;
    await readAs("https://two.example");
    expect(reads).toHaveLength(2);
  });

  test("is read anew after a change by this node, and a slow read from before it is not taken for the later one", async () => {
    await readAs("https://before.example");
    nowMs = 5_000;
    const slow = catalog.find([NAME]);
    catalog.forget();
    const asked = catalog.find([NAME]);
    expect(reads).toHaveLength(3); // who asks after the change does not join those who asked before it
    reads[2]?.answer("https://after.example");
    expect(await audienceOf(asked)).toBe("https://after.example");
    reads[1]?.answer("https://before.example");
    await slow;
    expect(await audienceOf(catalog.find([NAME]))).toBe("https://after.example");
    expect(reads).toHaveLength(3);
  });

  test("is read anew where the change came while it was being read and nobody has asked since", async () => {
    const slow = catalog.find([NAME]);
    catalog.forget();
    reads[0]?.answer("https://before.example");
    await slow;
    await readAs("https://after.example");
    expect(reads).toHaveLength(2);
  });

  test("is published as it was read last where the store is away, and an exchange is told so", async () => {
    await readAs("https://one.example");
    nowMs = 5_000;
    const published = catalog.list();
    const asked = catalog.find([NAME]);
    reads[1]?.fail(new StoreUnavailable("away"));
    expect(await audienceOf(published)).toBe("https://one.example");
    await expect(asked).rejects.toThrow(StoreUnavailable);
    await readAs("https://two.example");
  });
});
