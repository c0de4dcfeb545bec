import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { defineRoute, type Route, type RouteDocs } from "../http/route.ts";
import type { ListedSigningKey, MasterKeyUse } from "../storage/store.ts";
import type { AdminDeps } from "./partner-record.ts";

const OPERATOR = { kind: "operator" } as const;

const keyList = z.array(
  z.strictObject({
    kid: z.string(),
    algorithm: z.string(),
    state: z.enum(["current", "next", "retired"]),
    signs: z.boolean().describe("New access tokens are signed by it."),
    created_at: z.iso.datetime().describe("And published."),
    signs_from: z.iso.datetime().nullable().describe("null: a switch to it is not scheduled, or it signed from the first start on."),
    drops_at: z.iso.datetime().nullable().describe("When a retired key is no longer published and taken."),
  }),
);

const masterKeyList = z.array(
  z.strictObject({
    id: z.string().describe("Tells which one it is, and nothing about it."),
    newest: z.boolean().describe("The first of the list: everything new is made under it."),
    listed: z.boolean().describe("It is in this node's CAMBIST_MASTER_KEY. What hangs on one that is not cannot be used."),
    signing_keys: z.int().describe("Sealed under it."),
    secrets: z.int().describe("Hashed under it, of partners and resource servers."),
    tokens: z.int().describe("Opaque access tokens, hashed under it."),
  }),
);

const listBody = z.strictObject({ keys: keyList, master_keys: masterKeyList });
const switchedBody = z.strictObject({ keys: keyList });
const scheduledBody = z.strictObject({ keys: keyList, switches_at: z.iso.datetime() });

const rotateBody = z
  .strictObject({
    now: z.literal(true).optional().describe("The published next key takes over at once."),
    emergency: z.literal(true).optional().describe("And the current key is dropped at once, and so is every retired one."),
  })
  .refine(({ now, emergency }) => now === undefined || emergency === undefined, { error: "send now or emergency, not both" });

const LIST_DOCS: RouteDocs = {
  summary: "List Signing Keys",
  description: "And what still hangs on which master key: one that nothing hangs on can leave the list.",
  tag: "admin",
  answers: { 200: { description: "Every key of the server's own.", body: listBody } },
};

const ROTATE_DOCS: RouteDocs = {
  summary: "Rotate Signing Keys",
  description:
    "`{}` schedules the switch to the published next key for when it has been published for 24 hours, and a repetition answers with the same " +
    'time. `{"now":true}` switches at once. `{"emergency":true}` also drops the current key: every token that it signed dies, on every node ' +
    "within 5 seconds. With each switch a new next key is published. A key that is replaced without an emergency is taken and published " +
    "until its last token has expired.",
  tag: "admin",
  answers: {
    200: { description: "The keys were switched.", body: switchedBody },
    202: { description: "The switch is scheduled.", body: scheduledBody },
    409: { description: "Another request was switching the keys at the same time, and this one did nothing." },
  },
};

/** Our own signing keys (contract §9), never the private halves. */
export function signingKeyRoutes({ signingKeys, keyring, masterKeys }: AdminDeps): Route[] {
  const shown = (keys: readonly ListedSigningKey[]) => keys.map((key) => shownKey(key, keyring.signer().kid));
  return [
    defineRoute({
      operationId: "listSigningKeys",
      method: "GET",
      path: "/admin/v1/keys",
      auth: OPERATOR,
      docs: LIST_DOCS,
      async handle() {
        const [keys, uses] = await Promise.all([signingKeys.list(), signingKeys.listMasterKeyUses()]);
        return { status: 200, body: { keys: shown(keys), master_keys: shownMasterKeys(masterKeys.ids(), uses) } };
      },
    }),
    defineRoute({
      operationId: "rotateSigningKeys",
      method: "POST",
      path: "/admin/v1/keys/rotate",
      auth: OPERATOR,
      docs: ROTATE_DOCS,
      body: rotateBody,
      async handle({ body }) {
        if (body.now === undefined && body.emergency === undefined) {
          const { keys, switchesAtMs } = await keyring.scheduleSwitch();
          return { status: 202, body: { keys: shown(keys), switches_at: new Date(switchesAtMs).toISOString() } };
        }
        const keys = await keyring.switchNow(body.emergency === undefined ? "retire" : "drop");
        if (keys === "outdated") {
          throw new Problem(
            409,
            "Another request was switching the keys at the same time. Look at the keys, and send this again if it still holds.",
          );
        }
        return { status: 200, body: { keys: shown(keys) } };
      },
    }),
  ];
}

function shownKey(key: ListedSigningKey, signingKid: string): z.output<typeof keyList>[number] {
  return {
    kid: key.kid,
    algorithm: key.algorithm,
    state: key.state,
    signs: key.kid === signingKid,
    created_at: new Date(key.createdAtMs).toISOString(),
    signs_from: shownTime(key.signsFromMs),
    drops_at: shownTime(key.dropAfterMs),
  };
}

function shownTime(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}

/** Those of the list, newest first, and then any that something hangs on all the same. */
function shownMasterKeys(listed: readonly string[], uses: readonly MasterKeyUse[]): z.output<typeof masterKeyList> {
  const ids = new Set([...listed, ...uses.map(({ masterKeyId }) => masterKeyId).toSorted()]);
  const count = (id: string, what: MasterKeyUse["what"]) =>
    uses.filter((use) => use.masterKeyId === id && use.what === what).reduce((sum, use) => sum + use.count, 0);
  return [...ids].map((id) => ({
    id,
    newest: id === listed[0],
    listed: listed.includes(id),
    signing_keys: count(id, "signing_keys"),
    secrets: count(id, "secrets"),
    tokens: count(id, "tokens"),
  }));
}
