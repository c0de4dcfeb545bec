import { once } from "node:events";
import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import type { Partner } from "../storage/store.ts";
import type { Principal } from "./route.ts";
import { readBody } from "./body.ts";
import { Uploads } from "./uploads.ts";

/** As much of a request as is read. */
function request(length?: number) {
  return Object.assign(new PassThrough(), { headers: length === undefined ? {} : { "content-length": String(length) } });
}

describe("a body", () => {
  test("is read whole, up to what it may have", async () => {
    for (const length of [10, undefined]) {
      const sent = request(length);
      const read = readBody(sent, 10);
      sent.write("12345");
      sent.end("67890");
      expect((await read).toString()).toBe("1234567890");
    }
  });

  test("413: is not listened to where it says that it is longer, and no further where it turns out to be; the rest is taken, and not kept", async () => {
    const told = request(11);
    await expect(readBody(told, 10)).rejects.toMatchObject({ status: 413 });
    expect(told.listenerCount("data")).toBe(0);
    const untold = request();
    const read = readBody(untold, 10);
    untold.write("12345678901");
    await expect(read).rejects.toMatchObject({ status: 413 });
    untold.end("x".repeat(1_000_000));
    await once(untold, "end");
  });

  test("400: is not waited for where its sender goes away, before anybody listens or in the middle", async () => {
    const gone = request(10);
    gone.destroy();
    await expect(readBody(gone, 10)).rejects.toMatchObject({ status: 400 });
    for (const reason of [undefined, new Error("aborted")]) {
      const going = request(10);
      const read = readBody(going, 10);
      going.write("1");
      going.destroy(reason);
      await expect(read).rejects.toMatchObject({ status: 400 });
    }
  });
});

describe("uploads that are under way", () => {
  const caller = (clientId: string) => ({ kind: "service_account", partner: { clientId } as Partner }) satisfies Principal;

  test("503: are 8 of a partner, and 16 of all, at most; one that ends makes room for one", () => {
    const uploads = new Uploads();
    const begin = (clientId: string, count: number) => Array.from({ length: count }, () => uploads.begin(caller(clientId)));
    const refused = (clientId: string) => expect(() => uploads.begin(caller(clientId))).toThrow("Too many uploads are under way here");
    const [first] = begin("one", 8);
    refused("one");
    begin("two", 4);
    const [third] = begin("three", 4);
    refused("two");
    refused("four");
    third?.();
    begin("four", 1);
    refused("three");
    first?.();
    begin("one", 1);
    refused("one");
  });
});
