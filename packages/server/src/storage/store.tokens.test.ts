import { randomBytes, randomUUID } from "node:crypto";
import { type Client, cutOffSecondsOf } from "@cambist/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newResourceServerId, newSecretId } from "../ids.ts";
import { DIALECTS } from "../testing/database.ts";
import {
  CALLERS,
  createHome,
  createUser,
  issueRequest,
  newPartner,
  NOW,
  openTestStore,
  SERVICE_ACCOUNT,
  type TestStore,
} from "../testing/store.ts";
import type { Store } from "./store.ts";
import type { RevocationTarget } from "./token-store.ts";

const ROUNDS = 2;
const KID = "key-1";
const SUBJECTS = ["user", "workspace", "organization", "partner", "partner_key"] as const;

describe.each(DIALECTS)("revocations, resource servers and scopes in the store on %s", (dialect) => {
  let opened: TestStore;
  let store: Store;
  beforeAll(async () => {
    opened = await openTestStore(dialect);
    store = opened.nodes[0];
  });
  afterAll(() => opened.close());

  describe("a revocation while tokens are issued", () => {
    /** Goes on a little at each reading, so that seconds end in the middle of whatever is going on. */
    function openClock() {
      let readings = 0;
      const nowMs = () => NOW + ++readings * 400;
      return { nowMs, readings: () => readings };
    }

    interface Subject {
      readonly target: RevocationTarget;
      readonly principal: Parameters<typeof issueRequest>[1];
      /** As the next request with a token of the subject finds it, on this node. */
      cutOffSeconds(node: Store): Promise<number>;
    }

    async function openSubject(kind: RevocationTarget["kind"]): Promise<Subject & { readonly clientId: string }> {
      const { clientId } = await opened.createPartner();
      if (kind === "partner" || kind === "partner_key") {
        const target = kind === "partner" ? { kind, clientId } : { kind, clientId, kid: KID };
        const cutOffSeconds = async (node: Store) => cutOffSecondsOf(((await node.partners.find(clientId)) as Client).cutOffs, [KID]);
        return { clientId, target, principal: SERVICE_ACCOUNT, cutOffSeconds };
      }
      const { orgId, workspaceId } = await createHome(store, clientId);
      const { user_id: id } = await createUser(store, clientId, workspaceId);
      const target = { kind, id: { user: id, workspace: workspaceId, organization: orgId, token: "" }[kind] } as RevocationTarget;
      const cutOffSeconds = async (node: Store) => (await node.accounts.findLiveUser(clientId, id))?.tokensCutOffSeconds ?? 0;
      return { clientId, target, principal: { kind: "user", namespace: "user_id", id }, cutOffSeconds };
    }

    /** As the token endpoint does it: the record is read, its cut-offs are judged, and the store has the last word. */
    async function issue(
      node: Store,
      { clientId, principal }: Subject & { readonly clientId: string },
      issuedAtSeconds: number,
    ): Promise<boolean> {
      const client = await node.partners.find(clientId);
      if (client === undefined || issuedAtSeconds <= cutOffSecondsOf(client.cutOffs, [KID])) return false;
      const request = { ...issueRequest(client, principal, randomBytes(16)), issuedAtSeconds };
      return (await node.exchanges.issue(request)).code === "issued";
    }

    test.each(SUBJECTS)(
      "of 16 callers, one revokes a %s: what survives was begun once the revocation was durable, and both nodes say the same",
      async (kind) => {
        for (let round = 0; round < ROUNDS; round++) {
          const subject = await openSubject(kind);
          const clock = openClock();
          const issued: { readonly iat: number; readonly reading: number }[] = [];
          let lastReading = 0;
          const readAndNote = () => {
            const now = clock.nowMs();
            lastReading = clock.readings();
            return now;
          };
          const cutOffs = await opened.race(async (node, caller) => {
            if (caller === 0) return node.tokens.revoke(subject.target, readAndNote);
            for (let count = 0; count < 3; count++) {
              const iat = Math.floor(clock.nowMs() / 1000);
              const reading = clock.readings();
              if (await issue(node, subject, iat)) issued.push({ iat, reading });
            }
            return undefined;
          });
          const { cutOffSeconds } = cutOffs[0] as { readonly cutOffSeconds: number };
          for (const node of opened.nodes) expect(await subject.cutOffSeconds(node)).toBe(cutOffSeconds);
          expect(issued.length).toBeGreaterThan(0);
          for (const { iat, reading } of issued.filter((token) => token.iat > cutOffSeconds)) {
            expect(reading, `iat ${iat}, cut off at ${cutOffSeconds}`).toBeGreaterThan(lastReading);
          }
          for (const node of opened.nodes) {
            expect(await issue(node, subject, cutOffSeconds)).toBe(false);
            expect(await issue(node, subject, cutOffSeconds + 1)).toBe(true);
          }
        }
      },
    );

    test.each(SUBJECTS)(
      "a token that is begun before the revocation of a %s is durable dies with it, though its second is a later one",
      async (kind) => {
        const subject = await openSubject(kind);
        const writing = kind.startsWith("partner") ? 2 : 1; // by then the clock has been read for what is written down
        let readings = 0;
        let begun: Promise<boolean> | undefined;
        const revoked = await store.tokens.revoke(subject.target, () => {
          if (++readings === writing) begun = issue(opened.nodes[1], subject, NOW / 1000 + 1);
          return readings <= writing ? NOW + 999 : NOW + 1_001;
        });
        await begun;
        expect(begun).toBeDefined();
        expect(revoked).toEqual({ cutOffSeconds: NOW / 1000 + 1 });
        for (const node of opened.nodes) expect(await subject.cutOffSeconds(node)).toBe(NOW / 1000 + 1);
      },
    );

    test("of 16 revocations of one subject, the latest second stands, and one row", async () => {
      const subject = await openSubject("user");
      const { nowMs } = openClock();
      const cutOffs = await opened.race((node) => node.tokens.revoke(subject.target, nowMs));
      const latest = Math.max(...cutOffs.map((cutOff) => (cutOff as { readonly cutOffSeconds: number }).cutOffSeconds));
      for (const node of opened.nodes) expect(await subject.cutOffSeconds(node)).toBe(latest);
      const { id } = subject.target as { readonly id: string };
      const rows = await opened.database.query("SELECT cut_off_at FROM revocations WHERE subject_id = $1", [id]);
      expect(rows.map((row) => Number(row["cut_off_at"]))).toEqual([latest]);
    });

    test("a clock that is behind takes nothing back", async () => {
      const subject = await openSubject("organization");
      await store.tokens.revoke(subject.target, () => NOW + 60_000);
      await opened.nodes[1].tokens.revoke(subject.target, () => NOW);
      expect(await subject.cutOffSeconds(store)).toBe(NOW / 1000 + 60);
    });
  });

  const newSecret = () => ({ secretId: newSecretId(), hash: randomBytes(32), pepperId: "pepper", createdAtMs: NOW });
  const newApi = () => ({
    resourceServerId: newResourceServerId(),
    name: "Files",
    audience: `https://${randomUUID()}.example`,
    createdAtMs: NOW,
    updatedAtMs: NOW,
  });
  const count = (outcomes: readonly unknown[], outcome: unknown) => outcomes.filter((each) => each === outcome).length;

  async function createApi() {
    const api = newApi();
    expect(await store.resourceServers.create(api, newSecret())).toBe("created");
    return api;
  }

  async function createScope(resourceServerId: string): Promise<string> {
    const name = `files:${randomUUID()}`;
    const scope = { name, principal: "user", resourceServerId, description: "", createdAtMs: NOW } as const;
    expect(await store.resourceServers.createScope(scope)).toBe("created");
    return name;
  }

  describe("resource servers", () => {
    test("of 16 with one audience, one is made", async () => {
      const { audience } = newApi();
      const outcomes = await opened.race((node) => node.resourceServers.create({ ...newApi(), audience }, newSecret()));
      expect([count(outcomes, "created"), count(outcomes, "audience_taken")]).toEqual([1, CALLERS - 1]);
    });

    test("of 16 second secrets one is added; of the two, 16 removals leave one", async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const { resourceServerId } = await createApi();
        const added = await opened.race((node) => node.resourceServers.addSecret(resourceServerId, newSecret(), 2));
        expect([count(added, "added"), count(added, "too_many")]).toEqual([1, CALLERS - 1]);
        const { secrets } = (await store.resourceServers.find(resourceServerId)) as NonNullable<
          Awaited<ReturnType<Store["resourceServers"]["find"]>>
        >;
        const removed = await opened.race((node, caller) =>
          node.resourceServers.removeSecret(resourceServerId, secrets[caller % 2]?.secretId ?? "", undefined),
        );
        expect(count(removed, "removed")).toBe(1);
        expect((await store.resourceServers.find(resourceServerId))?.secrets).toHaveLength(1);
      }
    });

    test("a removal against new scopes and secrets: either it stays with them, or nothing of it is left", async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const { resourceServerId } = await createApi();
        const outcomes = await opened.race<string>((node, caller) => {
          if (caller % 4 === 0) return node.resourceServers.remove(resourceServerId);
          if (caller % 4 === 1) return node.resourceServers.addSecret(resourceServerId, newSecret(), 2);
          const scope = {
            name: `${resourceServerId}:${caller}`,
            principal: "user",
            resourceServerId,
            description: "",
            createdAtMs: NOW,
          } as const;
          return node.resourceServers.createScope(scope);
        });
        const found = await store.resourceServers.find(resourceServerId);
        const scopes = (await store.resourceServers.listScopes()).filter((scope) => scope.resourceServerId === resourceServerId);
        expect(count(outcomes, "removed")).toBe(found === undefined ? 1 : 0);
        expect(scopes).toHaveLength(found === undefined ? 0 : CALLERS / 2);
        expect(count(outcomes, "created")).toBe(scopes.length);
      }
    });
  });

  describe("scopes", () => {
    test("one that is removed while partners are allowed it: whoever comes second loses", async () => {
      const { resourceServerId } = await createApi();
      for (let round = 0; round < ROUNDS; round++) {
        const scope = await createScope(resourceServerId);
        const { clientId } = await opened.createPartner();
        const allowedScopes = ["thread", scope];
        const made: string[] = [];
        const outcomes = await opened.race<unknown>(async (node, caller) => {
          if (caller % 4 === 0) return node.resourceServers.removeScope(scope);
          const outcome =
            caller % 4 === 1
              ? await node.partners.update(clientId, { allowedScopes }, () => NOW)
              : await node.partners.create(newPartner({ allowedScopes }), NOW);
          if (typeof outcome === "string") return outcome;
          made.push(outcome.clientId);
          return "allowed";
        });
        const isThere = (await store.resourceServers.listScopes()).some(({ name }) => name === scope);
        expect(count(outcomes, "removed")).toBe(isThere ? 0 : 1);
        expect(count(outcomes, "allowed")).toBe(isThere ? CALLERS * 0.75 : 0);
        expect(count(outcomes, "scope_unknown")).toBe(isThere ? 0 : CALLERS * 0.75);
        for (const id of [clientId, ...made]) {
          expect((await store.partners.find(id))?.allowedScopes.includes(scope)).toBe(isThere);
        }
      }
    });

    test("of 16 with one name, one is made", async () => {
      const { resourceServerId } = await createApi();
      const scope = { name: `files:${randomUUID()}`, principal: "user", resourceServerId, description: "", createdAtMs: NOW } as const;
      const outcomes = await opened.race((node) => node.resourceServers.createScope(scope));
      expect([count(outcomes, "created"), count(outcomes, "name_taken")]).toEqual([1, CALLERS - 1]);
    });
  });
});
