import { request } from "node:http";
import type { Reply, TestServer } from "../../packages/server/src/testing/server.ts";
import type { DescribedOperation } from "./description.ts";

/** What one request to an operation holds, in the words of its description. */
export interface Call {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Every Authorization header; where it is left out, the token that the operation asks for. */
  readonly authorization?: readonly string[];
  readonly json?: unknown;
  readonly form?: Readonly<Record<string, string>>;
  /** Parts of these names, each a file that holds the content. */
  readonly multipart?: { readonly fields: readonly string[]; readonly content: string };
  /** In place of all of them: a body as it is. */
  readonly raw?: { readonly mediaType: string; readonly body: string };
  /** In place of the stage's. */
  readonly server?: TestServer;
}

/** By Node's own client: fetch would join two Authorization headers to one. Of an answer that stays open, what it begins with. */
export function sendCall(
  server: Pick<TestServer, "port">,
  { method, path }: Pick<DescribedOperation, "method" | "path">,
  call: Call,
): Promise<Reply> {
  const filled = path.replaceAll(/\{(\w+)\}/g, (_whole, name: string) => encodeURIComponent(call.params?.[name] ?? ""));
  const query = call.query === undefined ? "" : `?${new URLSearchParams(call.query).toString()}`;
  const content = bodyOf(call);
  const headers = {
    ...call.headers,
    ...(content === undefined ? {} : { "content-type": content.mediaType, "content-length": String(Buffer.byteLength(content.body)) }),
  };
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port: server.port, method, path: filled + query, headers }, (response) => {
      const chunks: Buffer[] = [];
      const finish = () => {
        const text = Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode ?? 0, headers: new Headers(headerLines(response.rawHeaders)), text, json: parse(text) });
      };
      const staysOpen = response.headers["content-type"] === "text/event-stream";
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        if (!staysOpen) return;
        finish();
        response.destroy();
      });
      response.on("end", finish);
    });
    sent.on("error", reject);
    if (call.authorization !== undefined) sent.setHeader("authorization", call.authorization);
    sent.end(content?.body);
  });
}

function bodyOf({ json, form, multipart, raw }: Call): Call["raw"] {
  if (raw !== undefined) return raw;
  if (multipart !== undefined) return { mediaType: "multipart/form-data; boundary=b", body: partsOf(multipart) };
  if (form !== undefined) return { mediaType: "application/x-www-form-urlencoded", body: new URLSearchParams(form).toString() };
  return json === undefined ? undefined : { mediaType: "application/json", body: JSON.stringify(json) };
}

function partsOf({ fields, content }: NonNullable<Call["multipart"]>): string {
  const parts = fields.map((name) => `--b\r\nContent-Disposition: form-data; name="${name}"; filename="x.txt"\r\n\r\n${content}\r\n`);
  return `${parts.join("")}--b--\r\n`;
}

function headerLines(raw: readonly string[]): [string, string][] {
  return Array.from({ length: raw.length / 2 }, (_, index) => [raw[index * 2] ?? "", raw[index * 2 + 1] ?? ""]);
}

/** Not every answer is JSON; the check of one that should be fails on the empty object. */
function parse(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}
