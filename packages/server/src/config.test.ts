import { describe, expect, test } from "vitest";
import { ConfigError, type Environment, readConfig } from "./config.ts";

const KEY = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345").toString("base64");
const GOOD: Environment = {
  CAMBIST_PUBLIC_URL: "https://auth.example.com",
  CAMBIST_MASTER_KEY: KEY,
  CAMBIST_OPERATOR_TOKEN: "0123456789abcdef0123456789abcdef",
};

function problemsOf(env: Environment, mode: "serve" | "sandbox" = "serve"): readonly string[] {
  try {
    readConfig(mode, env);
    return [];
  } catch (thrown) {
    if (thrown instanceof ConfigError) return thrown.problems;
    throw thrown;
  }
}

describe("the configuration", () => {
  test("a good one is read, with the defaults", () => {
    expect(readConfig("serve", GOOD)).toMatchObject({
      host: "127.0.0.1",
      port: 8080,
      publicUrl: "https://auth.example.com",
      databaseUrl: undefined,
      signingAlgorithm: "ES256",
      logLevel: "info",
    });
    const proxies = "10.0.0.0/8, 2001:db8::1 ,";
    expect(readConfig("serve", { ...GOOD, CAMBIST_TRUSTED_PROXIES: proxies }).trustedProxies).toEqual(["10.0.0.0/8", "2001:db8::1"]);
    expect(readConfig("sandbox", { ...GOOD, CAMBIST_PUBLIC_URL: undefined, PORT: "9090" }).publicUrl).toBe("http://localhost:9090");
    expect(readConfig("serve", { ...GOOD, CAMBIST_PUBLIC_URL: "https://auth.example.com/" }).publicUrl).toBe("https://auth.example.com");
    expect(readConfig("serve", { ...GOOD, CAMBIST_MASTER_KEY: `${KEY.replace("Q", "R")},${KEY}` }).masterKeys).toHaveLength(2);
  });

  test("an empty one lists everything that is missing, at once", () => {
    expect(problemsOf({})).toEqual([
      expect.stringContaining("CAMBIST_PUBLIC_URL is missing"),
      expect.stringContaining("CAMBIST_MASTER_KEY is missing"),
      expect.stringContaining("CAMBIST_OPERATOR_TOKEN is missing"),
    ]);
  });

  test.each([
    ["PORT", "0"],
    ["PORT", "65536"],
    ["PORT", "80a"],
    ["CAMBIST_PUBLIC_URL", "http://auth.example.com"],
    ["CAMBIST_PUBLIC_URL", "auth.example.com"],
    ["CAMBIST_PUBLIC_URL", "https://auth.example.com/?a"],
    ["CAMBIST_PUBLIC_URL", "https://auth.example.com/#a"],
    ["CAMBIST_PUBLIC_URL", "https://user:pass@auth.example.com"],
    ["CAMBIST_PUBLIC_URL", "https://AUTH.example.com"],
    ["DATABASE_URL", "mysql://x"],
    ["DATABASE_URL", "postgres://[x"],
    ["CAMBIST_MASTER_KEY", "short"],
    ["CAMBIST_MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],
    ["CAMBIST_MASTER_KEY", `${KEY},short`],
    ["CAMBIST_OPERATOR_TOKEN", "changeme"],
    ["CAMBIST_OPERATOR_TOKEN", "00000000000000000000000000000000"],
    ["CAMBIST_OPERATOR_TOKEN", "0123456789abcdef 0123456789abcdef"],
    ["CAMBIST_SIGNING_ALGORITHM", "HS256"],
    ["CAMBIST_SIGNING_KEY_DAYS", "-1"],
    ["CAMBIST_SIGNING_KEY_DAYS", "30.5"],
    ["CAMBIST_SIGNING_KEY_DAYS", "3651"],
    ["CAMBIST_LOG_LEVEL", "loud"],
    ["CAMBIST_PUBLICURL", "https://auth.example.com"],
    ["CAMBIST_TRUSTED_PROXIES", "10.0.0.300"],
    ["CAMBIST_TRUSTED_PROXIES", "proxy.internal"],
    ["CAMBIST_TRUSTED_PROXIES", "10.0.0.0/33"],
    ["CAMBIST_TRUSTED_PROXIES", "10.0.0.0/8/8"],
    ["CAMBIST_TRUSTED_PROXIES", "::ffff:10.0.0.0/104"],
    ["CAMBIST_TRUSTED_PROXIES", "fe80::1%eth0"],
    ["CAMBIST_TRUSTED_PROXIES", "0.0.0.0/0"],
  ])("%s=%s is refused by name, and a secret's value is not repeated", (name, value) => {
    const problems = problemsOf({ ...GOOD, [name]: value });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(name);
    if (/KEY|TOKEN/.test(name)) expect(problems[0]).not.toContain(value);
  });
});
