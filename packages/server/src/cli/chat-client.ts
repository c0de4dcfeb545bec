import { setTimeout as sleep } from "node:timers/promises";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { UsageError } from "./failure.ts";
import { printable } from "./output.ts";
import { type DemoSigner, signSubjectToken } from "./sandbox-token.ts";

const ANSWER_MS_MAX = 20_000;
const RETRY_MS = 200;
const RETRY_MS_MAX = 3_000;
/** Some twenty seconds in all: a server that starts again is back by then. */
const RETRIES_MAX = 10;

export type Json = Readonly<Record<string, unknown>>;

export interface StreamEvent {
  readonly id: string | undefined;
  /** One member, of the event's name. */
  readonly data: Json;
}

/** The server's APIs as one of the demo partner's principals sees them. The token is got, and got again when it is over, without a word. */
export interface Session {
  /** @throws Refused; Unreachable */
  call(method: "GET" | "POST" | "PUT" | "DELETE", path: string, body?: Json): Promise<{ readonly json: Json; readonly headers: Headers }>;
  /** Gives the file's id. @throws Refused; Unreachable */
  upload(path: string, file: { readonly name: string; readonly content: Uint8Array<ArrayBuffer> }): Promise<string>;
  /** What comes after `from`, each event once, also where the stream breaks and begins again. Ends where it does not begin again. @throws Refused; Error that says why it is over */
  events(path: string, from: string | null): AsyncGenerator<StreamEvent>;
}

/** An error answer, in the server's own words. */
export class Refused extends Error {
  readonly status: number;
  /** The name of the token endpoint's refusal. */
  readonly code: string | undefined;
  constructor(status: number, message: string, code: string | undefined) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

class Unreachable extends Error {}

/** @throws UsageError for what is no address of a server. */
export function serverUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol) || url.search + url.hash + url.username + url.password !== "") {
    throw new UsageError("the server's address must be an http(s) URL without query, fragment or user");
  }
  return url.href.replace(/\/+$/, "");
}

/** Signs as the demo partner and swaps that for an access token. @throws Refused where there is no such subject */
export async function openSession(base: string, signer: DemoSigner, subject: string): Promise<Session> {
  const renew = () => exchange(base, signer, subject);
  let token = await renew();
  const send = async (method: string, path: string, init: RequestInit): Promise<Response> => {
    for (let isFirst = true; ; isFirst = false) {
      const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${token}` };
      const response = await request(base, path, { ...init, method, headers });
      if (response.ok) return response;
      if (response.status !== 401 || !isFirst) throw await refusal(response);
      await response.body?.cancel();
      token = await renew();
    }
  };
  return {
    async call(method, path, body) {
      const content = body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
      const response = await send(method, path, { ...content, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
      return { json: parseObject(await response.text()), headers: response.headers };
    },
    async upload(path, { name, content }) {
      const form = new FormData();
      form.append("file", new Blob([content]), name);
      const response = await send("POST", path, { body: form, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
      return String(parseObject(await response.text())["file_id"]);
    },
    events: (path, from) => eventsOf(from, (headers) => send("GET", path, { headers })),
  };
}

async function exchange(base: string, signer: DemoSigner, subject: string): Promise<string> {
  const body = new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
    subject_token: signSubjectToken(signer, subject),
    client_id: signer.partner.clientId,
    client_secret: signer.partner.clientSecret,
  });
  const response = await request(base, "/oauth2/token", { method: "POST", body, signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  if (!response.ok) throw await refusal(response);
  return String(parseObject(await response.text())["access_token"]);
}

async function request(base: string, path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(base + path, { redirect: "error", ...init }); // the secret and the token are for this server only
  } catch (thrown) {
    const cause: unknown = thrown instanceof Error ? (thrown.cause ?? thrown) : undefined;
    const isClosed = cause instanceof Error && "code" in cause && cause.code === "ECONNREFUSED";
    const why = isClosed ? "nothing listens there" : cause instanceof Error ? cause.message : String(thrown);
    throw new Unreachable(`${base} cannot be reached (${why}); start the sandbox (npm start), or give its address: --url`, { cause });
  }
}

/** RFC 9457, or RFC 6749 §5.2 from the token endpoint. */
async function refusal(response: Response): Promise<Refused> {
  const { detail, error, error_description: description, error_uri: page } = parseObject(await response.text());
  const words = [detail, description].find((text) => typeof text === "string") ?? "and not as this server's APIs do; is the address right?";
  const code = typeof page === "string" ? page.slice(page.lastIndexOf("/") + 1) : undefined;
  const hint = error === "invalid_client" ? " Is it the sandbox of this data folder that runs there?" : "";
  return new Refused(response.status, `the server answered ${response.status}: ${printable(words)}${hint}`, code);
}

async function* eventsOf(from: string | null, open: (headers: Record<string, string>) => Promise<Response>): AsyncGenerator<StreamEvent> {
  let position = from;
  for (let failures = 0; failures <= RETRIES_MAX; failures += 1) {
    const response = await open(position === null ? {} : { "last-event-id": position }).catch(whereItMayPass);
    for await (const { id, data } of response?.body ? readEvents(response.body) : []) {
      position = id ?? position;
      const event = { id, data: parseObject(data) };
      const end = event.data["stream_end"] as { reason?: string } | undefined;
      if (end !== undefined) {
        throwIfOver(end.reason);
        break;
      }
      failures = 0;
      yield event;
    }
    await sleep(Math.min(RETRY_MS * 2 ** failures, RETRY_MS_MAX));
  }
}

/** A server that starts again, or has too much to do, is asked again. */
function whereItMayPass(thrown: unknown): undefined {
  const mayPass = thrown instanceof Unreachable || (thrown instanceof Refused && (thrown.status === 429 || thrown.status >= 500));
  if (!mayPass) throw thrown;
}

/** An expired token and a server that stops are no reason to give up: the next request gets another token, from the next server. */
function throwIfOver(reason: string | undefined): void {
  if (reason === "thread_deleted") throw new Error("the thread was deleted");
  if (reason === "token_ended")
    throw new Error("the user's token was ended: it was revoked, or the user, its workspace or its organization disabled");
}

/** Ends where the stream does, however it ends. */
async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<EventSourceMessage> {
  const arrived: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => arrived.push(event) });
  const decoder = new TextDecoder();
  try {
    for await (const bytes of body) {
      parser.feed(decoder.decode(bytes, { stream: true }));
      yield* arrived.splice(0);
    }
  } catch {
    // broken off: what was read so far stands, and the reader goes on after it
  }
}

export function parseObject(text: string): Json {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Json) : {};
  } catch {
    return {};
  }
}
