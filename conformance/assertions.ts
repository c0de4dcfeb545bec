import { webcrypto } from "node:crypto";
import * as oauth from "oauth4webapi";
import type { TestAlgorithm, TestKey } from "../packages/server/src/testing/jwt.ts";

/** Client assertions as oauth4webapi makes them: iss, sub, aud, exp, iat, nbf and jti by itself, and `typ` where it is told to. */

const WEB_ALGORITHMS: Record<TestAlgorithm, RsaHashedImportParams | EcKeyImportParams | Algorithm> = {
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  PS256: { name: "RSA-PSS", hash: "SHA-256" },
  ES256: { name: "ECDSA", namedCurve: "P-256" },
  ES384: { name: "ECDSA", namedCurve: "P-384" },
  EdDSA: { name: "Ed25519" },
};
type RsaHashedImportParams = webcrypto.RsaHashedImportParams;
type EcKeyImportParams = webcrypto.EcKeyImportParams;
type Algorithm = webcrypto.Algorithm;

type Change = Record<string, unknown>;

/** @param claims and header over the client's own; `undefined` takes one away. */
export async function privateKeyJwt(key: TestKey, claims: Change = {}, header: Change = {}): Promise<oauth.ClientAuth> {
  const pkcs8 = key.privateKey.export({ format: "der", type: "pkcs8" });
  const imported = await webcrypto.subtle.importKey("pkcs8", pkcs8, WEB_ALGORITHMS[key.algorithm], false, ["sign"]);
  return oauth.PrivateKeyJwt(
    { key: imported, kid: key.kid },
    {
      [oauth.modifyAssertion](ownHeader, ownClaims) {
        // the client writes Ed25519 (RFC 9864) for what the server knows as EdDSA
        Object.assign(ownHeader, { alg: key.algorithm, typ: "client-authentication+jwt" }, header);
        Object.assign(ownClaims, claims);
      },
    },
  );
}
