import { expect } from "vitest";
import type { RefusalCode } from "../../packages/protocol/src/index.ts";
import {
  createTestPartner,
  exchange,
  type Reply,
  send,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";

/** RFC 6749 §5.2. */
const DESCRIPTION = /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/;
/** One of our client secrets, or enough of one to matter. */
const CLIENT_SECRET = /cambist_secret_[\w-]{8}/;
/** A JWT with its payload complete (an empty signature is no excuse); one that was cut ends in three dots. */
const WHOLE_TOKEN = /eyJ[\w-]{8,}\.[\w-]{8,}\.(?!\.\.)/;

/** What is refused and how; 400 `invalid_request`, as for any fault of a subject token (RFC 8693 §2.2.2), unless told. */
export interface ExpectedRefusal {
  readonly status?: number;
  readonly error?: string;
  readonly code: RefusalCode;
}

/**
 * What every refusal of the token endpoint promises, whatever the cause: status, form and headers of the answer, a page behind
 * `error_uri`, one recorded exchange, nothing secret kept or said, and a server that goes on exchanging.
 */
export async function expectRefusal(server: TestServer, reply: Reply, expected: ExpectedRefusal): Promise<void> {
  const { status = 400, error = "invalid_request", code } = expected;
  expect({ ...reply, headers: undefined }).toMatchObject({
    status,
    json: { error, error_uri: expect.stringMatching(new RegExp(`^https?://[^/]+/docs/errors/${code}$`)) as unknown },
  });
  expect(reply.headers.get("content-type")).toMatch(/^application\/json(?:; ?charset=utf-8)?$/i);
  expect(reply.headers.get("cache-control")).toBe("no-store");
  expect(reply.json["error_description"]).toMatch(DESCRIPTION);
  expect(reply.json["trace_id"]).toMatch(/^[0-9a-f]{32}$/);
  const rows = await server.database.query("SELECT * FROM exchanges WHERE trace_id = $1", [reply.json["trace_id"] as string]);
  expect(rows).toEqual([expect.objectContaining({ outcome: "refused", refusal: code, token_id: null })]);
  expectNothingSecret(reply.text, JSON.stringify(rows));
  expectNothingSecretLogged(server);
  const page = await send(server, "GET", new URL(reply.json["error_uri"] as string).pathname);
  expect(page).toMatchObject({ status: 200 });
  await expectControl(server);
}

/** The server goes on exchanging. */
export async function expectControl(server: TestServer): Promise<void> {
  const partner = await controlPartner(server);
  const control = await exchange(partner, subjectToken(partner));
  expect({ ...control, headers: undefined }).toMatchObject({ status: 200, json: { token_type: "Bearer" } });
}

const controlPartners = new WeakMap<TestServer["app"], Promise<TestPartner>>();

function controlPartner(server: TestServer): Promise<TestPartner> {
  const known = controlPartners.get(server.app) ?? createTestPartner(server, { name: "Control" });
  controlPartners.set(server.app, known);
  return known;
}

/** Lines of each server that were looked at before. */
const linesSeen = new WeakMap<TestServer["app"], number>();

/** No log line so far holds a client secret or a whole token. */
export function expectNothingSecretLogged(server: TestServer): void {
  const fresh = server.logLines.slice(linesSeen.get(server.app));
  linesSeen.set(server.app, server.logLines.length);
  expectNothingSecret(...fresh);
}

export function expectNothingSecret(...texts: readonly string[]): void {
  for (const text of texts) {
    expect(text).not.toMatch(CLIENT_SECRET);
    expect(text).not.toMatch(WHOLE_TOKEN);
  }
}
