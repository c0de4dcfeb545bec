import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { createThread, isComplete, LedAgent, openStream } from "../../packages/server/src/testing/event-stream.ts";
import { call, send, startTestServer, type TestServer } from "../../packages/server/src/testing/server.ts";
import { HOME } from "./a10-setting.ts";
import { expectFault, type FilesSetting, formOf, openFilesSetting, partOf } from "./a13-files-setting.ts";
import { anonymous, expectProblem } from "./a9-setting.ts";

/* P13.9 for files: artifacts are in a13-threads.test.ts. */

describe.each(DIALECTS)("whose files they are on %s", (dialect) => {
  let server: TestServer;
  let setting: FilesSetting;
  let token: string;
  let threadId: string;
  const agent = new LedAgent();
  beforeAll(async () => {
    server = await startTestServer(dialect, { agent });
    setting = await openFilesSetting(server);
    ({ token, threadId } = setting);
  });
  afterAll(() => server.stop());

  const upload: FilesSetting["upload"] = (body, more) => setting.upload(body, more);
  const rowsOf: FilesSetting["rowsOf"] = (id) => setting.rowsOf(id);

  const fileOf = async (to: string, bearer: string) => String((await upload(formOf(partOf("secret")), { to, bearer })).json["file_id"]);
  const ask = (fileIds: unknown, to = threadId) =>
    call(server, "POST", `${HOME}/${to}/messages`, token, { message: "see", file_ids: fileIds });

  test("404: to another user's thread nothing is uploaded, and it reads like none", async () => {
    const before = await rowsOf();
    for (const { token: bearer } of Object.values(setting.people.others)) {
      const foreign = await upload(formOf(partOf("x")), { bearer });
      expectProblem(foreign, 404);
      expect(anonymous(foreign)).toEqual(anonymous(await upload(formOf(partOf("x")), { bearer, to: randomUUID() })));
    }
    expect(await rowsOf()).toEqual(before);
  });

  test("422: a message with a file of another thread, user or partner, or of none, each refused alike; with one twice, and with 21", async () => {
    const [own, asked] = [await createThread(server, token), await createThread(server, token)];
    const mine = await fileOf(asked, token);
    const theirs = await Promise.all(
      Object.values(setting.people.others).map(async (other) => fileOf(await createThread(server, other.token), other.token)),
    );
    const absent = await ask([randomUUID()], asked);
    for (const foreign of [await fileOf(own, token), ...theirs, mine.toUpperCase(), `${mine}\0`, "", "../x"]) {
      const reply = await ask([mine, foreign], asked);
      expectFault(reply, "file_ids.1", /^is not the id of a file of this thread$/);
      expect(anonymous(await ask([foreign], asked))).toEqual(anonymous(absent));
    }
    expectFault(await ask([mine, mine], asked), "file_ids.1", /^is there twice$/);
    expectFault(await ask(Array<string>(21).fill(mine), asked), "file_ids", /over 20/);
    expectFault(await ask(mine, asked), "file_ids", /./);
    const { json } = await call(server, "GET", `${HOME}/${asked}/messages`, token);
    expect(json["total_message_count"]).toBe(0);
  });

  test("the agent gets the files of a message, in its order, with their content; a list of messages has the contract's members alone", async () => {
    const asked = await createThread(server, token);
    const ids = [];
    for (const content of ["one", "two"]) ids.push(String((await upload(formOf(partOf(content)), { to: asked })).json["file_id"]));
    const number = agent.questions.length;
    const sent = await ask(ids.toReversed(), asked);
    expect(sent.status, sent.text).toBe(200);
    await agent.asked(number + 1);
    const files = agent.questions[number]?.files ?? [];
    expect(files).toMatchObject([
      { fileId: ids[1], name: "a.txt", mediaType: "application/octet-stream", size: 3 },
      { fileId: ids[0], size: 3 },
    ]);
    expect(await Promise.all(files.map(async (file) => Buffer.from(await file.read()).toString()))).toEqual(["two", "one"]);
    const stream = await openStream(server, asked, token, { "last-event-id": sent.headers.get("last-event-id") ?? "" });
    agent.say(number, "seen");
    agent.end(number);
    await stream.until(isComplete);
    stream.close();
    const { json } = await call(server, "GET", `${HOME}/${asked}/messages`, token);
    const members = ["message_id", "message", "is_user_message", "message_time", "citations"];
    for (const message of json["messages"] as object[]) expect(Object.keys(message)).toEqual(members);
  });

  test("a form names one file", async () => {
    const asked = await createThread(server, token);
    const id = await fileOf(asked, token);
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/x-www-form-urlencoded" };
    const post = (body: string) => send(server, "POST", `${HOME}/${asked}/messages`, { headers, body });
    const number = agent.questions.length;
    expect((await post(`message=x&file_ids%5B%5D=${id}`)).status).toBe(200);
    expect((await post(`message=x&file_ids%5B%5D=${id}&file_ids%5B%5D=${id}`)).status).toBe(400);
    await agent.asked(number + 1);
    expect(agent.questions[number]?.files).toMatchObject([{ fileId: id }]);
    agent.end(number);
  });

  test("files of a deleted thread are gone: from the store, from the agent, and for messages", async () => {
    const asked = await createThread(server, token);
    const id = await fileOf(asked, token);
    const number = agent.questions.length;
    await ask([id], asked);
    await agent.asked(number + 1);
    expect((await call(server, "DELETE", `${HOME}/${asked}`, token)).status).toBe(200);
    await expect(agent.questions[number]?.files[0]?.read()).rejects.toThrow("gone");
    await expect.poll(() => rowsOf(asked)).toEqual([]);
    expectProblem(await ask([id], asked), 404);
    expectFault(await ask([id]), "file_ids.0", /./);
    agent.end(number);
  });
});
