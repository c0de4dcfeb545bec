import { clientCredentials } from "./client-credentials.ts";
import type { Grant } from "./grant.ts";
import { tokenExchange } from "./token-exchange.ts";

/** Every grant that the token endpoint offers. A new one is a file and a line here. */
export const GRANTS: readonly Grant[] = [tokenExchange, clientCredentials];

export function findGrant(grantType: string): Grant | undefined {
  return GRANTS.find((grant) => grant.grantType === grantType);
}
