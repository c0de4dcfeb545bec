import { z } from "zod";

/** Field types that organizations, workspaces and users share (contract §5). Absent and null are the same. */

const TEXT_CHARACTERS_MAX = 255;
export const EXTERNAL_ID_CHARACTERS_MAX = 255;
const EMAIL_CHARACTERS_MAX = 320;
const ENTITLEMENTS_MAX = 200;

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

const text = (charactersMax: number) =>
  z
    .string()
    .max(charactersMax, `is over ${charactersMax} characters`)
    .refine((value) => !CONTROL.test(value), "has a control character");

export const freeText = text(TEXT_CHARACTERS_MAX).nullish();

/** Looks like one, and no more: whether it receives mail is not known, and it is not unique. */
export const email = text(EMAIL_CHARACTERS_MAX)
  .regex(/^[^\s@]+@[^\s@]+$/, "is not an email address")
  .nullish();

/** Never one that could be taken for a client id. */
export const externalId = text(EXTERNAL_ID_CHARACTERS_MAX)
  .min(1, "is empty")
  .refine((value) => !/^(?:prt|rs)_/.test(value), "must not start with prt_ or rs_")
  .nullish();

export const entitlements = z
  .array(z.strictObject({ billing_feature_id: text(TEXT_CHARACTERS_MAX).min(1, "is empty") }))
  .max(ENTITLEMENTS_MAX, `are over ${ENTITLEMENTS_MAX}`)
  .nullish();

/** One of our own ids. Anything else names nothing, so it is a 404 like any other absent id and not a 422. */
export const entityId = z.string().max(TEXT_CHARACTERS_MAX, `is over ${TEXT_CHARACTERS_MAX} characters`);

const ENTITY_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function isEntityId(value: string): boolean {
  return ENTITY_ID.test(value);
}
