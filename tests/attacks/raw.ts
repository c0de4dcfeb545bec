import {
  exchangeForm,
  type Reply,
  sendRaw,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";

const FORM_TYPE = "application/x-www-form-urlencoded";

/**
 * A token request byte by byte, one character per byte: what no HTTP client would send. Header lines stand as they are given, without
 * their CRLF; `contentTypeLine` is one of them.
 */
export function rawTokenRequest(body: string, headerLines: readonly string[] = [], contentTypeLine = `Content-Type: ${FORM_TYPE}`): Buffer {
  const head = ["POST /oauth2/token HTTP/1.1", "Host: cambist.test", "Connection: close", contentTypeLine, ...headerLines].filter(Boolean);
  return Buffer.from([...head, `Content-Length: ${body.length}`, "", body].join("\r\n"), "latin1");
}

/** Sends such a request and takes its answer apart. */
export async function postRaw(
  server: Pick<TestServer, "port">,
  body: string,
  headerLines: readonly string[] = [],
  contentTypeLine?: string,
): Promise<Reply> {
  return parseRawReply(await sendRaw(server, rawTokenRequest(body, headerLines, contentTypeLine)));
}

/** @throws when it is no HTTP answer. */
export function parseRawReply(received: string): Reply {
  const headEnd = received.indexOf("\r\n\r\n");
  const [statusLine = "", ...lines] = received.slice(0, headEnd).split("\r\n");
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1];
  if (headEnd < 0 || status === undefined) throw new Error(`no HTTP answer: ${JSON.stringify(received.slice(0, 200))}`);
  const headers = new Headers();
  for (const line of lines) headers.append(line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim());
  const text = received.slice(headEnd + 4);
  let json: Record<string, unknown> = {};
  try {
    json = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // not every answer is JSON; a test that expects JSON fails on the empty object
  }
  return { status: Number(status), headers, text, json };
}

/** An answer without what differs between any two: Date and trace id. */
export function sameButDateAndTrace(received: string): string {
  return received.replace(/^date: .*$/im, "date: …").replace(/"trace_id":"[0-9a-f]{32}"/, '"trace_id":"…"');
}

/** The Authorization header line of the pair as it is given: nothing is form-encoded here, unlike in `basic` of the harness. */
export function basicLine(pair: string | Uint8Array, scheme = "Basic"): string {
  return `Authorization: ${scheme} ${Buffer.from(pair).toString("base64")}`;
}

/** A fresh exchange of the partner's own service account, its client authenticated in the body unless told. */
export function freshForm(partner: TestPartner, auth: "post" | "none" = "post", claims: Record<string, unknown> = {}): URLSearchParams {
  return exchangeForm(partner, subjectToken(partner, claims), auth);
}
