import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readDemoClient } from "./demo-partner.ts";
import { freePort, makeDataDir, runCli, type ServerProcess, startCli, startServer } from "./spawn.ts";

interface Line {
  readonly thread_id: string;
  readonly message_chunk?: { readonly message: string };
  readonly message?: { readonly message: string };
  readonly task_status?: { readonly outcome: string; readonly status: string };
}

const linesOf = (stdout: string) =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
const chunksOf = (lines: readonly Line[]) => lines.map(({ message_chunk: chunk }) => chunk?.message ?? "").join("");

describe("cambist chat, with a sandbox that runs", () => {
  const dataDir = makeDataDir();
  const env = { CAMBIST_DATA_DIR: dataDir.path };
  const userFile = join(dataDir.path, "chat-user.json");
  let port: number;
  let server: ServerProcess;
  beforeAll(async () => {
    port = await freePort();
    server = await startServer("sandbox", port, env);
  });
  afterAll(async () => {
    server.signal("SIGTERM");
    await server.exited;
    dataDir.remove();
  });

  const userId = () => (JSON.parse(readFileSync(userFile, "utf8")) as { user_id: string }).user_id;
  const progressOf = async (threadId: string): Promise<unknown> => {
    const demo = readDemoClient(dataDir.path);
    const { json } = await demo.exchange(server.url, demo.sign(userId()));
    const headers = { authorization: `Bearer ${String(json["access_token"])}` };
    return (await fetch(`${server.url}/v2/threads/${threadId}/progress`, { headers })).json();
  };

  test("one message: its answer is printed with table and citation, and nothing else", async () => {
    const { code, stdout, stderr } = await runCli(["chat", "--message", "Hello you"], env);
    expect(stdout).toMatch(/^You wrote “Hello you”\. I see 0 earlier messages of this thread, and your entitlements: demo_chat\./);
    expect(stdout).toContain("\n\nThe words of the message\n\nWORD   CHARACTERS\nHello  5\nyou    3\n");
    expect(stdout).toMatch(/\n\[1\] About the demo agent · https:\/\/example\.com\/demo-agent · .+\n$/);
    expect(stdout).not.toContain("output_artifact");
    expect(stderr).toContain("Reading the message: 2 words.");
    expect(code).toBe(0);
  });

  test("two lines of input: two answers of one thread, in order, by the same user as before", async () => {
    const before = userId();
    expect(statSync(userFile).mode & 0o777).toBe(0o600);
    const { code, stdout } = await runCli(["chat"], env, "first\n\nsecond");
    expect(stdout).toMatch(/^You wrote “first”\. I see 0 earlier [^]+You wrote “second”\. I see 2 earlier /);
    expect(code).toBe(0);
    expect(userId()).toBe(before);
  });

  test("/file uploads a file, which goes with the next message and no other; one that is not there ends the conversation", async () => {
    const path = join(dataDir.path, "my report.txt");
    writeFileSync(path, "1234567890");
    const { code, stdout, stderr } = await runCli(["chat"], env, `/file  ${path} \nwith it\nwithout`);
    expect(stderr).toContain("(my report.txt, 10 bytes, goes with the next message)\n");
    expect(stderr).toContain("Reading my report.txt, 10 bytes: all of it is here.");
    expect(stdout).toMatch(/“with it”\. It came with 1 file: my report\.txt, 10 bytes\. I see[^]+“without”\. I see/);
    expect(code).toBe(0);
    const missing = await runCli(["chat"], env, "/file /nowhere/x\nhello");
    expect([missing.code === 0, missing.stdout]).toEqual([false, ""]);
    expect(missing.stderr).toMatch(/^cambist: the file cannot be read: ENOENT/);
  });

  test("a user that is gone is followed by another; one that is named has to be there", async () => {
    const before = userId();
    writeFileSync(userFile, JSON.stringify({ user_id: "6f1c9f0e-3c4b-4a52-8a0d-0e5b8a0f3d11" }));
    expect(await runCli(["chat", "--message", "Hello"], env)).toMatchObject({ code: 0 });
    expect(userId()).not.toBe("6f1c9f0e-3c4b-4a52-8a0d-0e5b8a0f3d11");
    expect(await runCli(["chat", "--message", "Hello", "--user", before], env)).toMatchObject({ code: 0 });
    expect(await runCli(["chat", "--message", "Hello", "--user", "nobody"], env)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: "cambist: the server answered 400: sub is not a user of this partner.\n",
    });
  });

  test("an answer that fails: exit code 1", async () => {
    const { code, stdout, stderr } = await runCli(["chat", "--message", "please fail"], env);
    expect(stdout).toContain("You wrote “please fail”.");
    expect(stderr).toContain("(failed)");
    expect(code).toBe(1);
  });

  test("Ctrl-C cancels the answer that comes, and the thread is idle", async () => {
    const chat = startCli(["chat", "--json", "--message", `slow ${"word ".repeat(300)}`], env);
    await expect.poll(() => chat.stdout(), { timeout: 20_000 }).toContain("message_chunk");
    chat.signal("SIGINT");
    expect(await chat.exited).toBe(1);
    const lines = linesOf(chat.stdout());
    expect(lines.at(-1)?.task_status).toMatchObject({ status: "Complete", outcome: "cancelled" });
    expect(chunksOf(lines)).toMatch(/^slow( word)*\s*User cancelled message$/);
    expect(lines.find(({ message }) => message !== undefined)?.message?.message).toBe(chunksOf(lines));
    expect(await progressOf(lines[0]?.thread_id ?? "")).toMatchObject({ progress_data: { status: "Complete" } });
  });

  test("Ctrl-C where no answer comes ends it", async () => {
    const chat = startCli(["chat"], env);
    chat.child.stdin?.write("Hello\n"); // and its input stays open
    await expect.poll(() => chat.stdout(), { timeout: 20_000 }).toContain("[1] About");
    chat.signal("SIGINT");
    expect(await chat.exited).toBe(0);
  });

  test("a server that starts again in the middle of an answer: the conversation goes on", async () => {
    const chat = startCli(["chat", "--json"], env);
    chat.child.stdin?.write(`slow ${"word ".repeat(30)}\n`);
    await expect.poll(() => chat.stdout(), { timeout: 20_000 }).toContain("message_chunk");
    server.signal("SIGTERM");
    await server.exited;
    server = await startServer("sandbox", port, env);
    await expect.poll(() => chat.stdout(), { timeout: 20_000 }).toContain("task_status");
    chat.child.stdin?.end("and now?\n");
    expect(await chat.exited).toBe(0);
    const lines = linesOf(chat.stdout());
    const first = lines.slice(0, lines.findIndex((line) => line.task_status !== undefined) + 1);
    expect(first.find(({ message }) => message !== undefined)?.message?.message).toBe(chunksOf(first)); // nothing lost, nothing twice
    expect(lines.at(-1)?.task_status).toMatchObject({ outcome: "answered" });
  });
});

describe("cambist chat says what is wrong", () => {
  test("before a sandbox has run, with no address, and where no server is", async () => {
    const dataDir = makeDataDir();
    const env = { CAMBIST_DATA_DIR: dataDir.path };
    expect(await runCli(["chat"], env)).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("npm start") as unknown });
    const port = await freePort();
    const server = await startServer("sandbox", port, env);
    server.signal("SIGTERM");
    await server.exited;
    expect(await runCli(["chat", "--message", "Hello"], env)).toMatchObject({
      code: 1,
      stderr: `cambist: http://localhost:${port} cannot be reached (nothing listens there); start the sandbox (npm start), or give its address: --url\n`,
    });
    expect(await runCli(["chat", "--url", "somewhere"], env)).toMatchObject({ code: 2 });
    dataDir.remove();
  });
});
