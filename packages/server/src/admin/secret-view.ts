import { z } from "zod";
import type { ListedSecret } from "../storage/store.ts";

/** One in use and its successor: of a partner, and of a resource server. */
export const SECRETS_MAX = 2;

/** A secret as it is listed. */
export const secretSchema = z.strictObject({
  secret_id: z.string(),
  created_at: z.iso.datetime(),
  last_used_at: z.iso.datetime().nullable().describe("To the minute."),
});

export function secretView({ secretId, createdAtMs, lastUsedAtMs }: ListedSecret): z.output<typeof secretSchema> {
  return {
    secret_id: secretId,
    created_at: new Date(createdAtMs).toISOString(),
    last_used_at: lastUsedAtMs === undefined ? null : new Date(lastUsedAtMs).toISOString(),
  };
}
