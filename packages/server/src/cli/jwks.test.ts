import { type KeyObject, createPublicKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type KeyPair, newKeyPair } from "../keys/key-pair.ts";
import { thumbprint } from "../keys/thumbprint.ts";
import { commands } from "./commands.ts";

/** openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=partner -days 36500 */
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIUeON00DabOUSuFq3vz8jSA1RNM0MwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHcGFydG5lcjAgFw0yNjExMjIwNTE1MTJaGA8yMTI2MTAyOTA1
MTUxMlowEjEQMA4GA1UEAwwHcGFydG5lcjBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABCUurf+QOv/rtspd89AzYfCM+L6IWUg7nNxd5gnCPe/JVSHYcz2rbYTdzH/P
e694vDeCo9mCm0cq8IYMSugvphejUzBRMB0GA1UdDgQWBBSi3DpdRATV2dgvjCjU
PIzaBsV/YDAfBgNVHSMEGDAWgBSi3DpdRATV2dgvjCjUPIzaBsV/YDAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCtwb+u9Oh6K195/aJ32M3gA4ki
CkZyk8dtcMQl9OxXzwIgB34Qr3FG110M9gD7Ejk27OMFxpdJzO1NvwjVTqoWxxo=
-----END CERTIFICATE-----`;
const SECP256K1 = `-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEuVm/fVfSkxHwCaqIf8kdZennpGJXnlBm
j2i1wy8xB60/4uhdymFmojyCOheNuroR3LqopCdKqGIMqrn9iTqWJw==
-----END PUBLIC KEY-----`;
const ENCRYPTED = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjq4hqqwggiLgICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEO1m1njm2JVOHMaorEEWSVQEQFqH
wcqpRnW/5js5nIxLkuQdrN5/Ncf/GrZZ+7hWwmV53SVMvz4eeGWTZU/JNf/zevEO
ytSjyEcHhv4CkukCOTM=
-----END ENCRYPTED PRIVATE KEY-----`;

let folder: string;
let pairs: Readonly<Record<"RS256" | "ES256" | "ES384" | "EdDSA", KeyPair>>;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "cambist-pem-"));
  pairs = { RS256: newKeyPair("RS256"), ES256: newKeyPair("ES256"), ES384: newKeyPair("ES384"), EdDSA: newKeyPair("EdDSA") };
});
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function pemFile(...parts: readonly (string | KeyObject)[]): string {
  const path = join(folder, `${++files}.pem`);
  const text = (part: KeyObject) => part.export({ format: "pem", type: part.type === "private" ? "pkcs8" : "spki" });
  writeFileSync(path, parts.map((part) => (typeof part === "string" ? part : text(part))).join("\n"));
  return path;
}

async function fromPem(...args: readonly string[]): Promise<string> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    await commands().parseAsync(["jwks", "from-pem", ...args], { from: "user" });
    return write.mock.calls.map(([text]) => String(text)).join("");
  } finally {
    write.mockRestore();
  }
}

const publicJwk = (key: KeyObject) => createPublicKey(key.export({ format: "pem", type: "spki" })).export({ format: "jwk" });

describe("jwks from-pem", () => {
  test.each(["RS256", "ES256", "ES384", "EdDSA"] as const)("%s: the public half, whichever half is given", async (algorithm) => {
    const { publicKey, privateKey } = pairs[algorithm];
    const jwk = publicJwk(publicKey);
    const expected = { keys: [{ ...jwk, kid: thumbprint(jwk), alg: algorithm, use: "sig" }] };
    for (const key of [publicKey, privateKey]) {
      const printed = await fromPem(pemFile(key), "--json");
      expect(JSON.parse(printed)).toEqual(expected);
      expect(printed).not.toContain('"d"');
    }
  });

  test("PKCS #1 and SEC 1, with their parameters before them", async () => {
    const rsa = pairs.RS256.privateKey.export({ format: "pem", type: "pkcs1" }) as string;
    const ec = pairs.ES256.privateKey.export({ format: "pem", type: "sec1" }) as string;
    const parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----";
    const { keys } = JSON.parse(await fromPem(pemFile(rsa), pemFile(parameters, ec))) as { keys: unknown[] };
    expect(keys).toMatchObject([{ kty: "RSA" }, { kty: "EC" }]);
  });

  test("a certificate; kid and algorithm as asked", async () => {
    expect(JSON.parse(await fromPem(pemFile(CERTIFICATE)))).toMatchObject({
      keys: [{ kty: "EC", crv: "P-256", alg: "ES256", use: "sig" }],
    });
    const asked = await fromPem(pemFile(pairs.RS256.publicKey), "--kid", "2026-11", "--alg", "PS256");
    expect(JSON.parse(asked)).toMatchObject({ keys: [{ kid: "2026-11", alg: "PS256" }] });
    expect(asked).toContain('\n  "keys"');
  });

  test("a key beside its public half is one key; two keys in one file, or one key twice, are refused", async () => {
    const { publicKey, privateKey } = pairs.ES256;
    expect((JSON.parse(await fromPem(pemFile(privateKey, publicKey))) as { keys: unknown[] }).keys).toHaveLength(1);
    await expect(fromPem(pemFile(publicKey, pairs.RS256.publicKey))).rejects.toThrow("holds several keys");
    await expect(fromPem(pemFile(publicKey), pemFile(privateKey))).rejects.toThrow('has the same "kid"');
    await expect(fromPem(pemFile(publicKey), pemFile(privateKey), "--kid", "x")).rejects.toThrow("--kid names one key");
  });

  test.each([
    ["no PEM", "nothing", /holds no key in PEM/],
    ["a broken PEM", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", /its public key cannot be read/],
    ["another curve", SECP256K1, /curve|kind/],
    ["an encrypted key", ENCRYPTED, /is encrypted; give its public half/],
  ])("%s is refused with the reason", async (_, pem, message) => {
    await expect(fromPem(pemFile(pem))).rejects.toThrow(message);
  });

  test("a key that intake refuses is refused with its reason: too short, or for another algorithm", async () => {
    await expect(fromPem(pemFile(newKeyPair("RS256", 1024).publicKey))).rejects.toThrow(/1024/);
    await expect(fromPem(pemFile(pairs.ES256.publicKey), "--alg", "RS256")).rejects.toThrow(/set "alg" to ES256/);
    await expect(fromPem(pemFile(pairs.ES256.publicKey), "--alg", "none")).rejects.toThrow(/not supported/);
  });
});
