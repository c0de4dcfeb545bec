import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createRemoteJWKSet, jwtVerify } from "jose";
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeDataDir } from "./process/spawn.ts";
import { decodeJwt } from "../packages/server/src/testing/jwt.ts";
import {
  createTestPartner,
  createTestUser,
  GRANT_TYPE,
  ISSUER,
  JWT_TYPE,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../packages/server/src/testing/server.ts";

describe("clients that know nothing of this server", () => {
  let server: TestServer;
  let partner: TestPartner;
  beforeAll(async () => {
    server = await startTestServer("sqlite");
    partner = await createTestPartner(server);
  });
  afterAll(() => server.stop());

  /** The server thinks that it is https://cambist.test; the client is led to where it listens. */
  const led = { [oauth.customFetch]: (url: string, options: object) => fetch(url.replace(ISSUER, server.url), options) };

  async function discover(): Promise<oauth.AuthorizationServer> {
    const issuer = new URL(ISSUER);
    const response = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...led });
    return oauth.processDiscoveryResponse(issuer, response);
  }

  test.each([
    ["client_secret_basic", oauth.ClientSecretBasic],
    ["client_secret_post", oauth.ClientSecretPost],
  ] as const)("oauth4webapi discovers, exchanges by %s and understands answer and refusal", async (_method, authentication) => {
    const as = await discover();
    const client = { client_id: partner.clientId };
    const request = async (token: string) => {
      const parameters = { subject_token: token, subject_token_type: JWT_TYPE };
      return oauth.genericTokenEndpointRequest(as, client, authentication(partner.clientSecret), GRANT_TYPE, parameters, led);
    };
    const token = subjectToken(partner);
    const answer = await oauth.processGenericTokenEndpointResponse(as, client, await request(token));
    expect(answer).toMatchObject({
      token_type: "bearer",
      expires_in: 3600,
      issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
    });
    await expect(request(token).then((response) => oauth.processGenericTokenEndpointResponse(as, client, response))).rejects.toMatchObject({
      error: "invalid_request",
      status: 400,
    });
  });

  test("jose verifies the access token by the published keys alone", async () => {
    const as = await discover();
    const client = { client_id: partner.clientId };
    const parameters = { subject_token: subjectToken(partner), subject_token_type: JWT_TYPE };
    const response = await oauth.genericTokenEndpointRequest(
      as,
      client,
      oauth.ClientSecretPost(partner.clientSecret),
      GRANT_TYPE,
      parameters,
      led,
    );
    const { access_token: token } = (await response.json()) as { access_token: string };
    const keys = createRemoteJWKSet(new URL((as.jwks_uri ?? "").replace(ISSUER, server.url)));
    const { payload } = await jwtVerify(token, keys, { issuer: ISSUER, audience: `${ISSUER}/v2`, typ: "at+jwt", algorithms: ["ES256"] });
    expect(payload).toMatchObject({ sub: partner.clientId, client_id: partner.clientId });
  });

  test("a shell with curl and openssl alone completes both exchanges", async () => {
    const directory = makeDataDir();
    const keyFile = join(directory.path, "key.pem");
    writeFileSync(keyFile, partner.key.privateKey.export({ format: "pem", type: "pkcs8" }), { mode: 0o600 });
    const user = await createTestUser(partner);
    for (const subject of [partner.clientId, user.userId]) {
      const script = `
        set -eu
        b64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
        now=$(date +%s)
        header=$(printf '{"alg":"RS256","kid":"%s"}' "$KID" | b64url)
        payload=$(printf '{"iss":"%s","sub":"%s","aud":"%s","iat":%s,"exp":%s,"jti":"%s"}' "$CLIENT_ID" "$SUBJECT" "$AUDIENCE" "$now" "$((now + 60))" "$(openssl rand -hex 16)" | b64url)
        signature=$(printf '%s.%s' "$header" "$payload" | openssl dgst -sha256 -sign "$KEY" -binary | b64url)
        curl -sS "$URL/oauth2/token" -u "$CLIENT_ID:$CLIENT_SECRET" \\
          -d grant_type=${GRANT_TYPE} -d subject_token_type=${JWT_TYPE} -d "subject_token=$header.$payload.$signature"`;
      const env = {
        PATH: process.env["PATH"] ?? "",
        KID: partner.key.kid,
        CLIENT_ID: partner.clientId,
        CLIENT_SECRET: partner.clientSecret,
        SUBJECT: subject,
        AUDIENCE: ISSUER,
        KEY: keyFile,
        URL: server.url,
      };
      const { stdout } = await promisify(execFile)("sh", ["-c", script], { env });
      const answer = JSON.parse(stdout) as { access_token: string };
      expect(decodeJwt(answer.access_token).payload).toMatchObject({ sub: subject });
    }
    directory.remove();
  });
});
