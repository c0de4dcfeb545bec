import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asShown, Guide, seenAnswers, statusesOf, type Walk } from "./guide.ts";

const guide = new Guide("accounts.md");

/** Contract §5: its table, and DELETE on the same paths. */
const OPERATIONS = [
  ...["organization", "workspace", "user"].flatMap((kind) => ["GET", "PUT", "PATCH", "DELETE"].map((method) => `${method} /${kind}`)),
  "PUT /organization-and-workspace",
  "POST /entities",
].map((operation) => operation.replace(" /", " /v2/account-management/"));

const HOUR_MS = 3_600_000;
const WALK_MS = 20_000;

/** Users that exchanges make are counted by the hour: a walk across its end would make one more. */
async function awaitRoomInThisHour(): Promise<void> {
  const left = HOUR_MS - (Date.now() % HOUR_MS);
  if (left < WALK_MS) await sleep(left);
}

describe("docs/accounts.md, walked from top to bottom in one bash session", () => {
  let walk: Walk;
  beforeAll(async () => {
    await awaitRoomInThisHour();
    walk = await guide.walk();
  });
  afterAll(() => walk.stop());

  test("each call is answered with the status that stands beside it", () => {
    const { calls } = walk;
    expect(calls.map(({ status, operation }) => `${operation} ${status}`)).toEqual(
      guide.scripts.flatMap(statusesOf).map((status, index) => `${calls[index]?.operation} ${status}`),
    );
  });

  test("the reader sees each status and answer", () => {
    expect(seenAnswers(walk)).toEqual(walk.calls.flatMap(({ status, body }) => [String(status), body]));
  });

  test("each answer is the one that is shown below its block", () => {
    const shown = guide.shownAnswers();
    expect(walk.calls.length).toBeGreaterThan(OPERATIONS.length);
    expect(walk.calls.map(({ body }, index) => asShown(JSON.parse(body), shown[index]))).toEqual(shown);
  });

  test("every operation on accounts is called, as the contract and the server's own description list them", async () => {
    const called = new Set(walk.calls.map(({ operation }) => operation));
    expect(OPERATIONS.filter((operation) => !called.has(operation))).toEqual([]);
    const description = (await (await fetch(`${walk.url}/openapi.json`)).json()) as {
      readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly tags: readonly string[] }>>>>;
    };
    const described = Object.entries(description.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, { tags }]) => (tags.includes("accounts") ? [`${method.toUpperCase()} ${path}`] : [])),
    );
    expect(described.toSorted()).toEqual(OPERATIONS.toSorted());
  });

  test("no account is left behind", async () => {
    const { access_token: token } = JSON.parse(walk.calls[0]?.body ?? "{}") as { readonly access_token: string };
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const left = await fetch(`${walk.url}/v2/account-management/entities`, { method: "POST", headers, body: "{}" });
    expect(await left.json()).toMatchObject({ success: true, organizations: [], workspaces: [], users: [] });
  });
});
