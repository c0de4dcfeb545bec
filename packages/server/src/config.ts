import { ACCESS_TOKEN_ALGORITHMS, type AccessTokenAlgorithm } from "@cambist/protocol";
import { resolve } from "node:path";
import { proxyFault } from "./http/client-address.ts";
import { MASTER_KEY_BYTES } from "./keys/master-key.ts";

export interface Config {
  readonly mode: "sandbox" | "serve";
  readonly host: string;
  readonly port: number;
  /** No slash at the end. The issuer, and the audience handed to partners. */
  readonly publicUrl: string;
  readonly dataDir: string;
  readonly databaseUrl: string | undefined;
  /** Newest first. */
  readonly masterKeys: readonly Uint8Array[];
  readonly operatorToken: string;
  readonly signingAlgorithm: AccessTokenAlgorithm;
  /** How long a signing key signs before the next one takes over by itself; 0: never. */
  readonly signingKeyDays: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  /** `host:port` as URLs have them: where keys may be fetched by plain http, or from a private address. */
  readonly jwksAllowHosts: ReadonlySet<string>;
  /** Addresses and networks whose `X-Forwarded-For` counts. */
  readonly trustedProxies: readonly string[];
}

export const OPERATOR_TOKEN_CHARACTERS_MIN = 32;
/** The first is the default. */
const LOG_LEVELS = ["info", "debug", "warn", "error", "silent"] as const;

/** Every problem of the configuration, at once. The message holds the names of variables and what to do, never a value of a secret. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`The configuration cannot be used:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.name = "ConfigError";
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** The only place that reads the process's environment. */
export function processEnvironment(): Environment {
  return Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== "")); // compose files set what they leave out to ""
}

/** Where the sandbox keeps what it made. */
export function readDataDir(env: Environment): string {
  return resolve(env["CAMBIST_DATA_DIR"] ?? "data");
}

/** @throws ConfigError that lists everything that is wrong. */
export function readConfig(mode: Config["mode"], env: Environment): Config {
  const problems: string[] = unknownVariables(env);
  const port = readPort(env["PORT"], problems);
  const config: Config = {
    mode,
    host: env["HOST"] ?? "127.0.0.1",
    port,
    publicUrl: readPublicUrl(mode, env["CAMBIST_PUBLIC_URL"] ?? (mode === "sandbox" ? `http://localhost:${port}` : undefined), problems),
    dataDir: readDataDir(env),
    databaseUrl: readDatabaseUrl(env["DATABASE_URL"], problems),
    masterKeys: readMasterKeys(env["CAMBIST_MASTER_KEY"], problems),
    operatorToken: readOperatorToken(env["CAMBIST_OPERATOR_TOKEN"], problems),
    signingAlgorithm: readChoice(env, "CAMBIST_SIGNING_ALGORITHM", ACCESS_TOKEN_ALGORITHMS, problems),
    signingKeyDays: readSigningKeyDays(env["CAMBIST_SIGNING_KEY_DAYS"], problems),
    logLevel: readChoice(env, "CAMBIST_LOG_LEVEL", LOG_LEVELS, problems),
    jwksAllowHosts: readHosts(env, "CAMBIST_JWKS_ALLOW_HOSTS", problems),
    trustedProxies: readProxies(env, "CAMBIST_TRUSTED_PROXIES", problems),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

const VARIABLES = new Set([
  "CAMBIST_DATA_DIR",
  "CAMBIST_JWKS_ALLOW_HOSTS",
  "CAMBIST_LOG_LEVEL",
  "CAMBIST_MASTER_KEY",
  "CAMBIST_OPERATOR_TOKEN",
  "CAMBIST_PUBLIC_URL",
  "CAMBIST_SIGNING_ALGORITHM",
  "CAMBIST_SIGNING_KEY_DAYS",
  "CAMBIST_TRUSTED_PROXIES",
]);

/** A setting that is ignored, for its spelling or for this version's lack of it, is worse than none. */
function unknownVariables(env: Environment): string[] {
  const unknown = Object.keys(env).filter((name) => name.startsWith("CAMBIST_") && env[name] !== undefined && !VARIABLES.has(name));
  return unknown.map((name) => `${name} is not a setting of this version; take it out, or correct its spelling.`);
}

function readPort(text: string | undefined, problems: string[]): number {
  if (text === undefined) return 8080;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65535) return port;
  problems.push("PORT is not a number from 1 to 65535.");
  return 0;
}

function readPublicUrl(mode: Config["mode"], text: string | undefined, problems: string[]): string {
  if (text === undefined) {
    problems.push(
      "CAMBIST_PUBLIC_URL is missing: give the https URL under which partners reach this server, for instance https://auth.example.com.",
    );
    return "";
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !["https:", "http:"].includes(url.protocol) || url.search + url.hash + url.username + url.password !== "") {
    problems.push("CAMBIST_PUBLIC_URL is not an http(s) URL without query, fragment or user (RFC 8414 §2).");
  } else if (mode === "serve" && url.protocol !== "https:") {
    problems.push(
      "CAMBIST_PUBLIC_URL must be https: tokens and secrets travel to it. For a try-out on this machine use `cambist sandbox`.",
    );
  } else if (text.replace(/\/+$/, "") !== url.href.replace(/\/+$/, "")) {
    problems.push(
      `CAMBIST_PUBLIC_URL is compared character by character by partners; write it in its normal form: ${url.href.replace(/\/+$/, "")}`,
    );
  }
  return text.replace(/\/+$/, "");
}

function readDatabaseUrl(text: string | undefined, problems: string[]): string | undefined {
  if (text === undefined || text === "") return undefined;
  if (!/^postgres(?:ql)?:\/\//.test(text) || !URL.canParse(text)) {
    problems.push("DATABASE_URL is not a postgres:// URL; leave it out to use the embedded store in CAMBIST_DATA_DIR.");
  }
  return text;
}

function readMasterKeys(text: string | undefined, problems: string[]): Uint8Array[] {
  if (text === undefined || text === "") {
    problems.push("CAMBIST_MASTER_KEY is missing: make one with `openssl rand -base64 32`, and keep it where your other secrets are.");
    return [];
  }
  const keys = text.split(",").map((part) => Buffer.from(part.trim(), "base64"));
  if (text.split(",").some((part) => !/^[A-Za-z0-9+/]{43}=$/.test(part.trim()))) {
    problems.push(
      "CAMBIST_MASTER_KEY is not 32 bytes in base64 (44 characters), or a list of such, newest first: `openssl rand -base64 32` makes one.",
    );
  } else if (keys.some((key) => key.length !== MASTER_KEY_BYTES || new Set(key).size < 8)) {
    problems.push("CAMBIST_MASTER_KEY is not random: make one with `openssl rand -base64 32`.");
  }
  return keys;
}

function readOperatorToken(text: string | undefined, problems: string[]): string {
  if (text === undefined || text === "") {
    problems.push("CAMBIST_OPERATOR_TOKEN is missing: make one with `openssl rand -hex 32`; it opens the admin API.");
  } else if (!/^[A-Za-z0-9._~+/-]+=*$/.test(text) || text.length < OPERATOR_TOKEN_CHARACTERS_MIN || new Set(text).size < 8) {
    problems.push(
      `CAMBIST_OPERATOR_TOKEN must be at least ${OPERATOR_TOKEN_CHARACTERS_MIN} random characters out of A-Z a-z 0-9 . _ ~ + / - (RFC 6750 §2.1): \`openssl rand -hex 32\` makes one.`,
    );
  }
  return text ?? "";
}

const SIGNING_KEY_DAYS_MAX = 3650;

function readSigningKeyDays(text: string | undefined, problems: string[]): number {
  if (text === undefined) return 90;
  const days = Number(text);
  if (/^\d{1,4}$/.test(text) && days <= SIGNING_KEY_DAYS_MAX) return days;
  problems.push(`CAMBIST_SIGNING_KEY_DAYS is not a number of days from 1 to ${SIGNING_KEY_DAYS_MAX}, or 0 for a rotation by hand only.`);
  return 0;
}

function readChoice<T extends string>(env: Environment, name: string, choices: readonly T[], problems: string[]): T {
  const text = env[name] ?? choices[0];
  const choice = choices.find((candidate) => candidate === text);
  if (choice === undefined) problems.push(`${name} must be one of ${choices.join(", ")}.`);
  return choice ?? (choices[0] as T);
}

/** Exact hosts with their ports, by commas; in the spelling that URLs are brought to, for that is what they are compared with. */
function readHosts(env: Environment, name: string, problems: string[]): ReadonlySet<string> {
  const hosts = readList(env[name]);
  for (const host of hosts) {
    const port = /:(\d+)$/.exec(host)?.[1];
    const url = port !== undefined && URL.canParse(`ws://${host}`) ? new URL(`ws://${host}`) : undefined;
    if (url === undefined || `${url.hostname}:${Number(port)}` !== host || url.pathname !== "/" || port === "0" || host.includes("*")) {
      problems.push(
        `${name} is not a list of host:port, separated by commas, such as localhost:9000,[::1]:9000; look at ${JSON.stringify(host)}.`,
      );
    }
  }
  return new Set(hosts);
}

function readProxies(env: Environment, name: string, problems: string[]): readonly string[] {
  const proxies = readList(env[name]);
  for (const proxy of proxies) {
    const fault = proxyFault(proxy);
    if (fault !== undefined) {
      problems.push(
        `${name} lists addresses and networks of proxies, separated by commas, such as 10.0.0.0/8,2001:db8::1; ${JSON.stringify(proxy)} ${fault}.`,
      );
    }
  }
  return proxies;
}

function readList(text = ""): string[] {
  const entries = text.split(",").map((entry) => entry.trim());
  return entries.filter((entry) => entry !== "");
}
