import { expect } from "vitest";
import {
  createTalker,
  createThread,
  isComplete,
  openStream,
  sendMessage,
  talkerToken,
  type TestTalker,
} from "../../packages/server/src/testing/event-stream.ts";
import {
  call,
  createTestPartner,
  serviceAccountToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import type { Asked } from "./a9-setting.ts";

/* What the tests of threads share: people who must not reach each other's threads, a thread to be reached, and a request for each route. */

export const HOME = "/v2/threads";

/** ECDSA: signing costs no time. */
const KEY = makeTestKey("ES256");

export interface People {
  readonly partner: TestPartner;
  /** Whose threads they are. */
  readonly mine: TestTalker;
  /** Each may use threads, and none may see those. */
  readonly others: Readonly<
    Record<"another user of the workspace" | "a user of another workspace" | "a user of another partner", TestTalker>
  >;
  readonly serviceAccount: string;
}

export async function openPeople(server: TestServer, fields: Record<string, unknown> = {}): Promise<People> {
  const partner = await createTestPartner(server, fields, KEY);
  const mine = await createTalker(partner);
  const serviceAccount = await serviceAccountToken(partner);
  const mate = await call(server, "PUT", "/v2/account-management/user", serviceAccount, { workspace_id: mine.workspaceId });
  const { user_id: userId } = mate.json["user"] as { user_id: string };
  return {
    partner,
    mine,
    others: {
      "another user of the workspace": { ...mine, userId, token: await talkerToken(partner, userId) },
      "a user of another workspace": await createTalker(partner),
      "a user of another partner": await createTalker(await createTestPartner(server, {}, KEY)),
    },
    serviceAccount,
  };
}

export interface AnsweredThread {
  readonly threadId: string;
  readonly artifactId: string;
}

/** A thread in which the demo agent has answered. */
export async function openAnswered(server: TestServer, { token }: Pick<TestTalker, "token">): Promise<AnsweredThread> {
  const threadId = await createThread(server, token);
  const { lastEventId } = await sendMessage(server, threadId, token, "hello");
  const stream = await openStream(server, threadId, token, { "last-event-id": lastEventId });
  const said = (await stream.until(isComplete)).find(({ kind }) => kind === "message");
  stream.close();
  const [, artifactId = ""] = /"artifact_id":"([^"]+)"/.exec(String(said?.data["message"])) ?? [];
  expect(artifactId).not.toBe("");
  return { threadId, artifactId };
}

const UPLOAD = '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhello\r\n--b--\r\n';

/** By operation, a request that succeeds for the owner of the thread. What comes last takes something away. */
export const REQUESTS: Readonly<Record<string, (threadId: string, artifactId: string) => Asked>> = {
  listMessages: (id) => ({ method: "GET", path: `${HOME}/${id}/messages` }),
  getThreadProgress: (id) => ({ method: "GET", path: `${HOME}/${id}/progress` }),
  getArtifact: (id, artifactId) => ({ method: "GET", path: `${HOME}/${id}/artifacts/${artifactId}` }),
  streamThreadEvents: (id) => ({ method: "GET", path: `${HOME}/stream/${id}` }),
  sendMessage: (id) => ({ method: "POST", path: `${HOME}/${id}/messages`, body: { message: "hello" } }),
  uploadFile: (id) => ({
    method: "POST",
    path: `${HOME}/${id}/files`,
    headers: { "content-type": "multipart/form-data; boundary=b" },
    body: UPLOAD,
  }),
  updateThread: (id) => ({ method: "PATCH", path: `${HOME}/${id}`, body: { name: "Stolen" } }),
  cancelThreadTask: (id) => ({ method: "DELETE", path: `${HOME}/${id}/task` }),
  deleteThread: (id) => ({ method: "DELETE", path: `${HOME}/${id}` }),
};

const TABLES = ["threads", "thread_messages", "thread_tasks", "thread_events", "thread_artifacts", "thread_files"];

/** Everything that is kept of a thread, whole. */
export async function rowsOfThread({ database }: TestServer, threadId: string): Promise<Record<string, unknown>> {
  const rows = TABLES.map(async (table) => {
    const found = await database.query(`SELECT * FROM ${table} WHERE thread_id = $1`, [threadId]);
    return [table, found.map((row) => JSON.stringify(row)).toSorted()] as const;
  });
  return Object.fromEntries(await Promise.all(rows));
}
