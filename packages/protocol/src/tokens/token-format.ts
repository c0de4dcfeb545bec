import { OPAQUE_TOKEN_LIFETIME_SECONDS } from "../constants.ts";
import type { IssuedFor, OpaqueToken, TokenEndpointPorts } from "../ports.ts";
import { type AccessTokenContent, issueAccessToken } from "./access-token.ts";

/** RFC 6749 §5.1 and RFC 8693 §2.2.1. Never a refresh token. */
export interface TokenAnswer {
  readonly access_token: string;
  readonly token_type: "Bearer";
  readonly expires_in: number;
  readonly scope: string;
}

/** Of the second published endpoint, without the envelope around it. */
export type OpaqueTokenAnswer = Omit<TokenAnswer, "scope">;

/** How an access token is made, and what the client is told with it. */
export interface TokenFormat<A> {
  make(content: Omit<AccessTokenContent, "subject">, ports: Pick<TokenEndpointPorts, "signer" | "newOpaqueToken">): MadeToken<A>;
}

interface MadeToken<A> {
  /** What the transaction that issues it has to keep. */
  readonly opaque: OpaqueToken | undefined;
  /** Once it is issued, and its subject known. */
  answer(subject: IssuedFor, members: Readonly<Record<string, string>>): A;
}

export const JWT_FORMAT: TokenFormat<TokenAnswer> = {
  make: (content, ports) => ({
    opaque: undefined,
    answer: (subject, members) => ({
      access_token: issueAccessToken({ ...content, subject }, ports.signer()),
      ...members,
      token_type: "Bearer",
      expires_in: content.client.accessTokenLifetimeSeconds,
      scope: content.scope,
    }),
  }),
};

export const OPAQUE_FORMAT: TokenFormat<OpaqueTokenAnswer> = {
  make({ client, issuedAtSeconds, tokenId, audience, scope, kids }, ports) {
    const { token, hash, pepperId } = ports.newOpaqueToken();
    const expiresAtSeconds = issuedAtSeconds + OPAQUE_TOKEN_LIFETIME_SECONDS;
    return {
      opaque: { hash, pepperId, tokenId, clientId: client.clientId, audience, scope, kids, issuedAtSeconds, expiresAtSeconds },
      answer: () => ({ access_token: token, token_type: "Bearer", expires_in: OPAQUE_TOKEN_LIFETIME_SECONDS }),
    };
  },
};
