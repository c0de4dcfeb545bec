import { CLIENT_ID_FORM } from "@cambist/protocol";
import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { text } from "../http/text.ts";
import { isEntityId } from "../ids.ts";
import type { EntityKey, Entitlement } from "../storage/account-store.ts";
import type { Partner } from "../storage/store.ts";

/** Field types that organizations, workspaces and users share (contract §5). Absent and null are the same. */

const TEXT_CHARACTERS_MAX = 255;
const ID_CHARACTERS_MAX = 255;
const EMAIL_CHARACTERS_MAX = 320;
const ENTITLEMENTS_MAX = 200;
const ENTITLEMENTS_CHARACTERS_MAX = 16_384;

export const freeText = text(TEXT_CHARACTERS_MAX).nullish();

/** Looks like one, and no more: whether it receives mail is not known, and it is not unique. */
export const email = text(EMAIL_CHARACTERS_MAX)
  .regex(/^[^\s@]+@[^\s@]+$/, "is not an email address")
  .nullish();

/** Never one that could be taken for a client id. */
export const externalId = text(ID_CHARACTERS_MAX)
  .min(1, "is empty")
  .refine((value) => !CLIENT_ID_FORM.test(value), "must not start with prt_ or rs_")
  .nullish();

const entitlement = z.strictObject({ billing_feature_id: text(TEXT_CHARACTERS_MAX).min(1, "is empty") });

/** Bounded together, too: a page of a list holds those of 200 entities. */
export const entitlements = z
  .array(entitlement)
  .max(ENTITLEMENTS_MAX, `are over ${ENTITLEMENTS_MAX}`)
  .refine(
    (list) => JSON.stringify(list).length <= ENTITLEMENTS_CHARACTERS_MAX,
    `are over ${ENTITLEMENTS_CHARACTERS_MAX} characters of JSON`,
  )
  .nullish();

export const status = z.enum(["active", "disabled"]).nullish();

/** One of our own ids. What can be none names nothing, and is a 404 like any other absent id and not a 422. */
export const ownId = z.string().max(ID_CHARACTERS_MAX, `is over ${ID_CHARACTERS_MAX} characters`);

/** An id, of ours or of the partner's, by which something is looked for. */
export const anyId = text(ID_CHARACTERS_MAX).min(1, "is empty");

/** What every entity of an answer has. */
export const commonMembers = { entitlements: z.array(entitlement), status: z.enum(["active", "disabled"]) };

/** Undefined where nothing can be stored under it, and PostgreSQL would refuse to be asked. */
export function toEntityKey({ id, externalId: external }: { id: unknown; externalId: unknown }): EntityKey | undefined {
  if (typeof id === "string") return isEntityId(id) ? { id } : undefined;
  return typeof external === "string" && externalId.safeParse(external).success ? { externalId: external } : undefined;
}

/** @throws Problem 422 where the partner has a list of billing features and `field` names one that is not on it. */
export function requireHeldFeatures(partner: Partner, field: string, named: readonly Entitlement[] | null | undefined): void {
  const { billingFeatures } = partner;
  if (billingFeatures === null || !named) return;
  const fields = named.flatMap(({ billing_feature_id: id }, index) =>
    billingFeatures.includes(id)
      ? []
      : [{ field: `${field}.${index}.billing_feature_id`, message: "is not among the partner's billing features" }],
  );
  const [first] = fields;
  if (first !== undefined) throw new Problem(422, `${first.field}: ${first.message}; the operator sets them.`, { fields });
}
