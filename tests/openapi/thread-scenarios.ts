import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createTalker, createThread, openStream, sendMessage } from "../../packages/server/src/testing/event-stream.ts";
import { admin, call, createTestPartner } from "../../packages/server/src/testing/server.ts";
import { type Call, sendCall } from "./call.ts";
import type { Scenarios } from "./scenarios.ts";
import type { Stage } from "./stage.ts";

const MESSAGE = { message: "hello" };
/** The demo agent takes three seconds to answer it. */
const LONG = `slow ${"word ".repeat(30)}`;
const WAITING_MAX = 20;
const FILE = { fields: ["file"], content: "hello" };
const FILE_BYTES_MAX = 10 * 1024 * 1024;

const tokenOf = ({ tokens }: Stage) => tokens["user"] ?? "";
const absent = () => ({ params: { thread_id: randomUUID() } });
const ofThread = async (stage: Stage) => ({ params: { thread_id: await createThread(stage.server, tokenOf(stage)) } });

/** What a user does with its conversations. */
export const THREAD_SCENARIOS: Readonly<Record<string, Scenarios>> = {
  listThreads: {
    200: async (stage) => {
      for (let n = 0; n < 2; n++) await ofThread(stage);
      return [{ query: { limit: "1" } }, {}];
    },
  },
  createThread: { sample: () => ({ json: { thread_name: "One" } }), 200: () => ({ json: { thread_name: "One" } }) },
  updateThread: {
    sample: () => ({ ...absent(), json: { name: "Two" } }),
    200: async (stage) => ({ ...(await ofThread(stage)), json: { name: "Two" } }),
  },
  deleteThread: { sample: absent, 200: ofThread },
  listMessages: {
    sample: absent,
    200: async (stage) => {
      const { params } = await answered(stage);
      const query = { start: "2020-01-01", end: "2120-01-01T00:00:00+01:00", start_index: "0", limit_num: "1000" };
      return [{ params }, { params, query }];
    },
  },
  sendMessage: {
    sample: () => ({ ...absent(), json: MESSAGE }),
    200: async (stage) => [
      { ...(await ofThread(stage)), json: { ...MESSAGE, file_ids: [] } },
      { ...(await ofThread(stage)), form: MESSAGE },
      await withFile(stage),
    ],
    409: async (stage) => {
      const { params } = await ofThread(stage);
      for (let n = 0; n < WAITING_MAX; n++) await sendMessage(stage.server, params.thread_id, tokenOf(stage), LONG);
      return { params, json: MESSAGE };
    },
    422: async (stage) => [
      { ...(await ofThread(stage)), json: { file_ids: [randomUUID()], ...MESSAGE } },
      { ...(await ofThread(stage)), form: { "file_ids[]": randomUUID(), ...MESSAGE } },
      { ...(await ofThread(stage)), json: { message: ["x"], not_a_field: 1 } },
    ],
  },
  uploadFile: {
    sample: () => ({ ...absent(), multipart: FILE }),
    200: async (stage) => ({ ...(await ofThread(stage)), multipart: FILE }),
    400: async (stage) => ({ ...(await ofThread(stage)), raw: { mediaType: "multipart/form-data; boundary=b", body: "--b" } }),
    409: async (stage) => {
      const { params } = await ofThread(stage);
      await stage.server.database.query("UPDATE threads SET file_count = 100 WHERE thread_id = $1 RETURNING 1", [params.thread_id]);
      return { params, multipart: FILE };
    },
    413: async (stage) => ({ ...(await ofThread(stage)), multipart: { ...FILE, content: "x".repeat(FILE_BYTES_MAX + 1) } }),
    415: async (stage) => ({ ...(await ofThread(stage)), json: FILE }),
    422: async (stage) => ({ ...(await ofThread(stage)), multipart: { ...FILE, fields: ["file", "more"] } }),
  },
  getThreadProgress: {
    sample: absent,
    200: async (stage) => [await ofThread(stage), { params: (await answered(stage)).params }],
  },
  cancelThreadTask: { sample: absent, 200: ofThread },
  getArtifact: {
    sample: () => ({ params: { ...absent().params, artifact_id: randomUUID() } }),
    200: async (stage) => {
      const { params, message } = await answered(stage);
      const [, artifactId = ""] = /"artifact_id":"([^"]+)"/.exec(message) ?? [];
      return { params: { ...params, artifact_id: artifactId } };
    },
  },
  streamThreadEvents: {
    sample: absent,
    200: async (stage) => {
      const { params } = await answered(stage);
      return [{ params }, { params, headers: { "Last-Event-ID": "0" } }];
    },
    400: async (stage) => ({ ...(await ofThread(stage)), headers: { "Last-Event-ID": "x" } }),
    429: asManyAsItMay,
  },
};

/** A message with a file. */
async function withFile(stage: Stage): Promise<Call> {
  const { params } = await ofThread(stage);
  const reply = await sendCall(
    stage.server,
    { method: "POST", path: "/v2/threads/{thread_id}/files" },
    { params, multipart: FILE, authorization: [`Bearer ${tokenOf(stage)}`] },
  );
  return { params, json: { ...MESSAGE, file_ids: [reply.json["file_id"]] } };
}

/** A thread with a message, and what the demo agent said to it. */
async function answered(stage: Stage): Promise<{ readonly params: { readonly thread_id: string }; readonly message: string }> {
  const { params } = await ofThread(stage);
  const path = `/v2/threads/${params.thread_id}/messages`;
  await sendMessage(stage.server, params.thread_id, tokenOf(stage), "hello");
  for (;;) {
    const { json } = await call(stage.server, "GET", path, tokenOf(stage));
    const [, answer] = json["messages"] as { message: string }[];
    if (answer !== undefined) return { params, message: answer.message };
    await sleep(50);
  }
}

/** The only stream that its partner may have is open. */
async function asManyAsItMay({ server }: Stage): Promise<Call> {
  const partner = await createTestPartner(server);
  const { token } = await createTalker(partner);
  await admin(server, "PATCH", `/partners/${partner.clientId}`, { rate_limits: { requests_per_minute: 60_000, streams: 1 } });
  const threadId = await createThread(server, token);
  await openStream(server, threadId, token);
  return { params: { thread_id: threadId }, authorization: [`Bearer ${token}`] };
}
