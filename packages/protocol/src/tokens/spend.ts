import { CLOCK_SKEW_SECONDS_MAX } from "../constants.ts";
import type { ClientPorts, Spend } from "../ports.ts";
import type { PartnerJwt } from "./partner-jwt.ts";

/** Between the clocks of two nodes, and between the check of a token and its turn in the store. */
const FORGET_SECONDS_AFTER = 300;

/**
 * What stands for this token among the partner's spent ones, be it a subject token or a client assertion: its jti, or where it has none
 * its content without the signature (an ECDSA signature has a second valid spelling, -s). Kept until the token could not pass under the
 * widest skew that can be set.
 */
export function spendOf(kind: Spend["token"], token: PartnerJwt, ports: Pick<ClientPorts, "sha256">): Spend {
  const identity = token.jti === undefined ? `content ${token.signingInput}` : `jti ${token.jti}`;
  return {
    token: kind,
    key: ports.sha256(identity).subarray(0, 16),
    expiresAtMs: Math.ceil((token.expiresAtSeconds + CLOCK_SKEW_SECONDS_MAX + FORGET_SECONDS_AFTER) * 1000),
  };
}
