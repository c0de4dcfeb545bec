import type { Command } from "commander";
import { type Environment, processEnvironment } from "../config.ts";
import { UsageError } from "./failure.ts";
import { printable } from "./output.ts";
import { type OperatorToken, readOperatorToken, readSettings } from "./settings.ts";

const ANSWER_MS_MAX = 20_000;

export interface AdminOptions {
  readonly url?: string;
  readonly json?: boolean;
}

/** A command that asks a server, with the options that all of those have. */
export function adminCommand(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .option("--url <url>", "the server; CAMBIST_PUBLIC_URL unless given, else this machine on PORT")
    .option("--json", "print one JSON document");
}

type Method = "GET" | "POST" | "PATCH" | "DELETE";
export type Answer = Readonly<Record<string, unknown>>;

/** The admin API of a running server (contract §9), as the operator. */
export interface AdminClient {
  /** @throws Error that says what the server refused, or why it was not reached. */
  send(method: Method, path: string, body?: unknown): Promise<Answer>;
}

export function openAdminClient({ url }: AdminOptions, env: Environment = processEnvironment()): AdminClient {
  const settings = readSettings(env);
  const base = checkedUrl(url ?? settings.publicUrl);
  const token = readOperatorToken(env, settings.dataDir);
  return { send: (method, path, body) => send({ base, token }, { method, path, body }) };
}

/** @throws UsageError where the operator token must not go. */
function checkedUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol) || url.search + url.hash + url.username + url.password !== "") {
    throw new UsageError("the server's address must be an http(s) URL without query, fragment or user");
  }
  if (url.protocol === "http:" && !isLoopback(url.hostname)) {
    throw new UsageError(`the operator token is not sent to ${url.host} by plain http, for all on the way to read; use https`);
  }
  return url.href.replace(/\/+$/, "");
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

interface Server {
  readonly base: string;
  readonly token: OperatorToken;
}

interface Request {
  readonly method: Method;
  readonly path: string;
  readonly body: unknown;
}

async function send(server: Server, { method, path, body }: Request): Promise<Answer> {
  const headers: Record<string, string> = { authorization: `Bearer ${server.token.value}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response: Response;
  let text: string;
  try {
    response = await fetch(server.base + path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: "manual", // the token is for this server only
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    text = await response.text();
  } catch (thrown) {
    const isUnknown = method === "GET" ? "" : " Whether it was done is not known: look, before you try again.";
    throw unreached(server.base, thrown, isUnknown);
  }
  const answer = parseObject(text);
  if (response.ok && answer !== undefined) return answer;
  throw refused(server, response, answer);
}

function parseObject(text: string): Answer | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Answer) : undefined;
  } catch {
    return undefined;
  }
}

function unreached(base: string, thrown: unknown, isUnknown: string): Error {
  if (thrown instanceof Error && thrown.name === "TimeoutError") {
    return new Error(`${base} did not answer within ${ANSWER_MS_MAX / 1000} s.${isUnknown}`, { cause: thrown });
  }
  const cause: unknown = thrown instanceof Error ? thrown.cause : undefined;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : undefined;
  if (code === "ECONNREFUSED")
    return new Error(`nothing listens at ${base}; is the server running there? Another address: --url`, { cause });
  const why = cause instanceof Error ? cause.message || code : String(thrown);
  const isSent = code !== undefined && !/^(?:ENOTFOUND|EAI_|EHOST|ENET|ERR_TLS|CERT_|DEPTH_|UNABLE_)/.test(code);
  return new Error(`${base} cannot be reached (${why}).${isSent ? isUnknown : ""}`, { cause });
}

/** RFC 9457, as http/problem.ts has it. */
function refused({ base, token }: Server, response: Response, answer: Answer | undefined): Error {
  const { status } = response;
  if (status >= 300 && status < 400) {
    const to = printable(response.headers.get("location") ?? "elsewhere");
    return new Error(`${base} sends us on to ${to}, and the operator token is not sent after it; give the right address: --url`);
  }
  const { detail, errors, trace_id: traceId } = answer ?? {};
  if (typeof detail !== "string")
    return new Error(`${base} answered ${status}, and not as this server's admin API does; is the address right?`);
  if (status === 401) return new Error(`${base} does not take the operator token of ${token.source}.`);
  const fields = Array.isArray(errors) && errors.length > 1 ? (errors as { field: string; message: string }[]) : [];
  const lines = [detail, ...fields.map(({ field, message }) => `  - ${field}: ${message}`)].map((line) => printable(line));
  const trace = status >= 500 && typeof traceId === "string" ? ` (trace_id ${printable(traceId)})` : "";
  return new Error(lines.join("\n") + trace);
}
