import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../testing/database.ts";
import { CALLERS, issueRequest, newPartner, NOW, openTestStore, SERVICE_ACCOUNT, type TestStore } from "../testing/store.ts";
import type { FetchedJwks, FetchedKey, Partner, Store } from "./store.ts";

const key = (kid: string, state: FetchedKey["state"] = "used"): FetchedKey => ({
  kid,
  thumbprint: `thumbprint of ${kid}`,
  algorithm: "ES256",
  state,
  reason: null,
  jwk: { kty: "EC" },
  firstSeenAtMs: NOW,
  lastSeenAtMs: NOW,
});

const fetched = (...keys: FetchedKey[]): FetchedJwks => ({
  keys,
  fetchedAtMs: NOW,
  freshUntilMs: NOW + 60_000,
  failedAtMs: undefined,
  failure: undefined,
});

let urls = 0;
const newUrl = () => `https://partner-${urls++}.example/jwks`;

describe.each(DIALECTS)("keys behind a URL in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
  });
  afterAll(() => opened.close());

  const withUrl = (jwksUri = newUrl()) => opened.createPartner({ jwks: null, jwksUri }) as Promise<Partner & { jwksUri: string }>;
  const version = async ({ clientId }: Partner) => (await store.partners.find(clientId))?.version;

  test("a URL belongs to one partner, on creation and on change; of 16 callers that register one, one wins", async () => {
    const first = await withUrl();
    expect(await store.partners.create(newPartner({ jwks: null, jwksUri: first.jwksUri }), NOW)).toBe("jwks_uri_taken");
    const second = await withUrl();
    expect(await store.partners.update(second.clientId, { jwksUri: first.jwksUri }, () => NOW)).toBe("jwks_uri_taken");
    expect(await store.partners.find(second.clientId)).toMatchObject({ jwksUri: second.jwksUri, version: 1 });
    const raced = newUrl();
    const created = await opened.race((node) => node.partners.create(newPartner({ jwks: null, jwksUri: raced }), NOW));
    expect(created.filter((verdict) => verdict === "jwks_uri_taken")).toHaveLength(CALLERS - 1);
  });

  test("any number of partners have none", async () => {
    for (let i = 0; i < 3; i++) expect(await opened.createPartner()).toMatchObject({ jwksUri: null });
  });

  test("what was fetched is found again, on every node, for the URL that it came from", async () => {
    const partner = await withUrl();
    expect(await store.partnerJwks.find(partner.clientId, partner.jwksUri)).toBeUndefined();
    const jwks = { ...fetched(key("a"), key("b", "refused")), failedAtMs: NOW - 1, failure: "it answered 500" };
    expect(await store.partnerJwks.update(partner.clientId, partner.jwksUri, () => jwks)).toBe("updated");
    expect(await opened.nodes[1].partnerJwks.find(partner.clientId, partner.jwksUri)).toEqual(jwks);
    expect(await store.partnerJwks.find(partner.clientId, newUrl())).toBeUndefined();
    expect(await store.partnerJwks.find((await withUrl()).clientId, partner.jwksUri)).toBeUndefined();
  });

  test("the partner's version moves when the used keys do, and only then", async () => {
    const partner = await withUrl();
    const update = (jwks: FetchedJwks) => store.partnerJwks.update(partner.clientId, partner.jwksUri, () => jwks);
    await update(fetched(key("a")));
    expect(await version(partner)).toBe(2);
    await update({ ...fetched(key("b", "refused"), key("a")), fetchedAtMs: NOW + 1 });
    await update({ ...fetched(key("a"), key("c", "gone")), failure: "x", failedAtMs: NOW });
    expect(await version(partner)).toBe(2);
    await update(fetched(key("a"), key("b")));
    expect(await version(partner)).toBe(3);
    await update(fetched(key("b"), key("a")));
    expect(await version(partner)).toBe(3);
    await update(fetched(key("a"), { ...key("b"), thumbprint: "another" }));
    expect(await version(partner)).toBe(4);
  });

  test("an exchange that was checked with the keys of before is not issued", async () => {
    const partner = await withUrl();
    await store.partnerJwks.update(partner.clientId, partner.jwksUri, () => fetched(key("new")));
    expect(await store.exchanges.issue(issueRequest(partner, SERVICE_ACCOUNT, randomBytes(16)))).toEqual({ code: "client_changed" });
  });

  test("an answer that comes for a URL of before, or for nobody, is not kept", async () => {
    const partner = await withUrl();
    await store.partnerJwks.update(partner.clientId, partner.jwksUri, () => fetched(key("a")));
    const moved = newUrl();
    await store.partners.update(partner.clientId, { jwksUri: moved }, () => NOW);
    expect(await store.partnerJwks.update(partner.clientId, partner.jwksUri, () => fetched(key("late")))).toBe("outdated");
    expect(await store.partnerJwks.find(partner.clientId, moved)).toBeUndefined();
    await store.partnerJwks.update(partner.clientId, moved, (before) => {
      expect(before).toBeUndefined();
      return fetched(key("b"));
    });
    expect((await store.partnerJwks.find(partner.clientId, moved))?.keys.map(({ kid }) => kid)).toEqual(["b"]);
    expect(await store.partnerJwks.update("prt_nobody", moved, () => fetched())).toBe("outdated");
  });

  test("of 16 writers at once each sees what the one before it wrote", async () => {
    const partner = await withUrl();
    await opened.race((node, caller) =>
      node.partnerJwks.update(partner.clientId, partner.jwksUri, (before) => fetched(...(before?.keys ?? []), key(`k${caller}`))),
    );
    expect((await store.partnerJwks.find(partner.clientId, partner.jwksUri))?.keys).toHaveLength(CALLERS);
    expect(await version(partner)).toBe(1 + CALLERS);
  });

  describe("a request with two things to spend, an assertion and a subject token", () => {
    const spend = (token: "client_assertion" | "subject_token", spent: Uint8Array) => ({ token, key: spent, expiresAtMs: NOW + 60_000 });
    const request = (partner: Partner, assertion: Uint8Array, subject: Uint8Array) => ({
      ...issueRequest(partner, SERVICE_ACCOUNT, undefined),
      spends: [spend("client_assertion", assertion), spend("subject_token", subject)],
    });
    const codes = (verdicts: readonly { code: string; refusal?: { code: string } }[]) =>
      verdicts.map((verdict) => verdict.refusal?.code ?? verdict.code).toSorted();

    test("is refused for the one that was spent, the assertion first", async () => {
      const partner = await opened.createPartner();
      const [a, b, c, d] = Array.from({ length: 4 }, () => randomBytes(16)) as [Buffer, Buffer, Buffer, Buffer];
      const issue = async (assertion: Uint8Array, subject: Uint8Array) =>
        codes([await store.exchanges.issue(request(partner, assertion, subject))]);
      expect(await issue(a, b)).toEqual(["issued"]);
      expect(await issue(a, b)).toEqual(["client_assertion_replayed"]);
      expect(await issue(c, b)).toEqual(["token_replayed"]);
      expect(await issue(a, d)).toEqual(["client_assertion_replayed"]); // and d is not spent by it
      expect(await issue(c, d)).toEqual(["client_assertion_replayed"]); // c was, in the request before
      expect(await issue(randomBytes(16), d)).toEqual(["issued"]);
    });

    test("of one space: an assertion with the jti of its subject token is spent by itself", async () => {
      const partner = await opened.createPartner();
      const same = randomBytes(16);
      expect(codes([await store.exchanges.issue(request(partner, same, same))])).toEqual(["token_replayed"]);
    });

    test("in one batch: each job in turn takes what is left, and what a refused one did not come to is not spent", async () => {
      const partner = await opened.createPartner();
      const [x, y, z, q, r] = Array.from({ length: 5 }, () => randomBytes(16)) as [Buffer, Buffer, Buffer, Buffer, Buffer];
      const jobs = [request(partner, x, y), request(partner, y, z), request(partner, q, q), request(partner, r, x)];
      const verdicts = await Promise.all(jobs.map((job) => store.exchanges.issue(job)));
      expect(verdicts.map((verdict) => codes([verdict])[0])).toEqual([
        "issued",
        "client_assertion_replayed",
        "token_replayed",
        "token_replayed",
      ]);
      const spent = await opened.database.query("SELECT spend_key FROM spent_tokens WHERE partner_id = $1", [partner.clientId]);
      const hex = (keys: readonly Uint8Array[]) => keys.map((each) => Buffer.from(each).toString("hex")).toSorted();
      expect(hex(spent.map((row) => row["spend_key"] as Uint8Array))).toEqual(hex([x, y, q, r]));
    });

    test("of 16 callers with one assertion, one is issued", async () => {
      const partner = await opened.createPartner();
      for (let round = 0; round < 20; round++) {
        const assertion = randomBytes(16);
        const verdicts = await opened.race((node) => node.exchanges.issue(request(partner, assertion, randomBytes(16))));
        expect(codes(verdicts)).toEqual([...Array.from({ length: CALLERS - 1 }, () => "client_assertion_replayed"), "issued"]);
      }
    });

    test("of 16 callers that spend two things crosswise, none is issued twice and none waits for ever", async () => {
      const partner = await opened.createPartner();
      for (let round = 0; round < 20; round++) {
        const [a, b] = [randomBytes(16), randomBytes(16)];
        const verdicts = await opened.race((node, caller) =>
          node.exchanges.issue(caller % 2 === 0 ? request(partner, a, b) : request(partner, b, a)),
        );
        expect(codes(verdicts).filter((code) => code === "issued").length).toBeLessThanOrEqual(1);
      }
    });
  });
});
