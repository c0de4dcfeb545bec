import { readFileSync } from "node:fs";
import { decodeUtf8, describeJwksFault, describeKeyFault, parseStrictJson, takeInJwks } from "@cambist/protocol";
import { type Command, InvalidArgumentError, Option } from "commander";
import { UsageError } from "./failure.ts";

type Read = (text: string) => unknown;

const text: Read = (value) => value;
const list: Read = (value) =>
  value
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
const whole: Read = (value) => {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError("It is not a whole number.");
  return Number(value);
};
/** An empty text could mean none as well as any, and a variable of the shell that is not set must change neither. */
const features: Read = (value) => {
  const named = list(value) as string[];
  if (named.length === 0) throw new InvalidArgumentError("It names none; --any-billing-feature lifts the restriction.");
  return named;
};

const DEFAULT = "default";

/** `6000`, `6000,1000`, `6000,1000,5000`, or `default` for the server's own. Which numbers may be is for the server to say. */
const rates: Read = (value) => {
  if (value === DEFAULT) return DEFAULT; // commander takes null for an empty text
  const [perMinute = "", burst, streams, ...more] = value.split(",").map((part) => part.trim());
  if (more.length > 0) throw new InvalidArgumentError("It is not <requests per minute>,<burst>,<streams>, nor default.");
  return {
    requests_per_minute: whole(perMinute),
    ...(burst === undefined ? {} : { burst: whole(burst) }),
    ...(streams === undefined ? {} : { streams: whole(streams) }),
  };
};

const NONE = "none";

/** `https://a.example,https://b.example`, or `none`: a variable of the shell that is not set must not take all of them away. */
const origins: Read = (value) => {
  const named = list(value) as string[];
  if (named.length === 0) throw new InvalidArgumentError("It names none; none takes all of them away.");
  return named.length === 1 && named[0] === NONE ? [] : named;
};

/** Each option and the field of the admin API that it sets. Which values may be is for the server to say: it may be of another version. */
const FIELDS: readonly { readonly flags: string; readonly field: string; readonly read: Read; readonly description: string }[] = [
  { flags: "--jwks-uri <url>", field: "jwks_uri", read: text, description: "where the partner publishes its keys" },
  { flags: "--jwks-file <file>", field: "jwks", read: readJwksFile, description: "the partner's keys, a JWK set; - for standard input" },
  { flags: "--issuer <iss>", field: "issuer", read: text, description: "iss of its tokens (its client id unless given)" },
  { flags: "--audience <aud>", field: "audience", read: text, description: "aud of its tokens (the public URL unless given)" },
  {
    flags: "--subject-namespace <ids>",
    field: "subject_namespace",
    read: text,
    description: "what sub holds: user_id or external_user_id",
  },
  { flags: "--replay <rule>", field: "replay", read: text, description: "subject tokens are single_use or reusable" },
  {
    flags: "--auth-method <method>",
    field: "token_endpoint_auth_method",
    read: text,
    description: "how it authenticates: client_secret or private_key_jwt",
  },
  { flags: "--allowed-scopes <a,b>", field: "allowed_scopes", read: list, description: "scopes that it may have" },
  { flags: "--allowed-grants <a,b>", field: "allowed_grants", read: list, description: "token-exchange, client_credentials" },
  { flags: "--allowed-algorithms <a,b>", field: "allowed_algorithms", read: list, description: "what it may sign with" },
  {
    flags: "--assertion-lifetime-seconds-max <n>",
    field: "assertion_lifetime_seconds_max",
    read: whole,
    description: "longest life of a token that it signs",
  },
  { flags: "--clock-skew-seconds <n>", field: "clock_skew_seconds", read: whole, description: "how far its clock may be off" },
  {
    flags: "--access-token-lifetime-seconds <n>",
    field: "access_token_lifetime_seconds",
    read: whole,
    description: "life of an access token",
  },
  {
    flags: "--provisioning <rule>",
    field: "provisioning",
    read: text,
    description: "off, or create: an exchange makes a user that is not there yet",
  },
  { flags: "--home-workspace-id <id>", field: "home_workspace_id", read: text, description: "its workspace in which exchanges make users" },
  {
    flags: "--provisioning-hourly-max <n>",
    field: "provisioning_hourly_max",
    read: whole,
    description: "how many users exchanges may make in an hour",
  },
  {
    flags: "--billing-features <a,b>",
    field: "billing_features",
    read: features,
    description: "the only ones that its entitlements may name",
  },
  {
    flags: "--rate-limits <n,burst,streams>",
    field: "rate_limits",
    read: rates,
    description: "requests per minute, and how many at once after a rest (as many unless given); default for the server's own",
  },
  {
    flags: "--allowed-origins <a,b>",
    field: "allowed_origins",
    read: origins,
    description: "web origins whose pages may call the threads API from a browser; none to take all away",
  },
];

const ANY_BILLING_FEATURE = new Option("--any-billing-feature", "lifts that: its entitlements may name any");

const OPTIONS = FIELDS.map(({ flags, description, read, field }) => ({ field, option: new Option(flags, description).argParser(read) }));

export function addPartnerOptions(command: Command): Command {
  for (const { option } of OPTIONS) command.addOption(option);
  return command.addOption(ANY_BILLING_FEATURE);
}

/** As commander gives them: by the options' names, in camel case. */
export interface PartnerOptions {
  readonly name?: string;
  readonly status?: string;
  readonly jwksUri?: string;
  readonly jwksFile?: unknown;
  readonly billingFeatures?: unknown;
  readonly anyBillingFeature?: boolean;
  readonly rateLimits?: unknown;
}

/** The fields that were given. @throws UsageError where two of them contradict each other. */
export function partnerFields(options: PartnerOptions): Record<string, unknown> {
  if (options.jwksUri !== undefined && options.jwksFile !== undefined) throw new UsageError("give one of --jwks-uri and --jwks-file");
  if (options.billingFeatures !== undefined && options.anyBillingFeature) {
    throw new UsageError("give one of --billing-features and --any-billing-feature");
  }
  const values = options as Readonly<Record<string, unknown>>;
  const given = OPTIONS.map(({ field, option }) => [field, values[option.attributeName()]] as const);
  const all = [["name", options.name], ["status", options.status], ...given] as const;
  const fields = Object.fromEntries(all.filter(([, value]) => value !== undefined));
  const lifted = {
    ...(options.anyBillingFeature ? { billing_features: null } : {}),
    ...(options.rateLimits === DEFAULT ? { rate_limits: null } : {}),
  };
  return { ...fields, ...lifted };
}

const STANDARD_INPUT = 0;

/** Looked at before it goes anywhere: a private key in it must not leave this machine. */
function readJwksFile(path: string): unknown {
  const content = decodeUtf8(readFileSync(path === "-" ? STANDARD_INPUT : path));
  const parsed = content === undefined ? undefined : parseStrictJson(content);
  if (!parsed?.ok) throw new Error(`${path} is not JSON.`);
  const intake = takeInJwks(parsed.value);
  if (!intake.ok) throw new Error(`${path}: ${describeJwksFault(intake.fault)}`);
  const refused = intake.value.refused.map(
    ({ index, kid, fault }) => `  - keys.${index}${kid === undefined ? "" : ` (${kid})`}: ${describeKeyFault(fault)}`,
  );
  if (refused.length > 0) throw new Error([`${path} has keys that cannot be used, and was not sent:`, ...refused].join("\n"));
  return parsed.value;
}
