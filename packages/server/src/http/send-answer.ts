import type { ServerResponse } from "node:http";
import { eventSink } from "./event-sink.ts";
import type { Answer } from "./route.ts";

/**
 * Sends an answer as a whole, or opens its stream. JSON gets no charset, which it has none of (RFC 8259 §11).
 * @param more headers that go with whatever the answer is; the answer's own come before them.
 */
export function sendAnswer(response: ServerResponse, answer: Answer, more: Readonly<Record<string, string>>): void {
  const { status, body, stream } = answer;
  if (stream !== undefined) return openStream(response, { ...answer, stream }, more);
  const hasBody = status !== 204; // which has no length either (RFC 9110 §8.6)
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const headers: Record<string, string | number> = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store", // most answers hold a secret or somebody's data: a cache keeps what its route says it may, and nothing else
  };
  if (hasBody) headers["content-type"] = typeof body === "string" ? "text/plain; charset=utf-8" : "application/json";
  Object.assign(headers, more, answer.headers);
  if (hasBody) headers["content-length"] = Buffer.byteLength(text);
  response.writeHead(status, headers);
  response.end(text); // a string: Node sends it in one piece with the head
}

type Stream = Answer & { readonly stream: NonNullable<Answer["stream"]> };

/** Stays open: nothing may hold it back on its way, keep it, or change it. */
function openStream(response: ServerResponse, { status, headers, stream }: Stream, more: Readonly<Record<string, string>>): void {
  response.writeHead(status, {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no", // nginx
    connection: "close", // with the stream's end: a server that stops must not wait for a connection that nobody uses
    ...more,
    ...headers,
  });
  const { method, socket } = response.req;
  socket.setTimeout(0); // whoever streams knows itself who takes nothing
  socket.once("end", () => void socket.end()); // who hangs up says no more than that: a stream has no end that it could wait for
  if (method === "HEAD") response.end();
  else stream(eventSink(response, socket));
}
