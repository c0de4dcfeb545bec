import { setTimeout as sleep } from "node:timers/promises";
import { openStream, type ReceivedEvent } from "../../packages/server/src/testing/event-stream.ts";
import { call } from "../../packages/server/src/testing/server.ts";
import { isEndOf, type Sent } from "../threads-whole.ts";
import { readDemoClient } from "./demo-partner.ts";

interface Place {
  readonly url: string;
}

/** A token of a new user of the sandbox's demo partner. It outlives the server. */
export async function demoUserToken(server: Place, dataDir: string): Promise<string> {
  const client = readDemoClient(dataDir);
  const exchanged = await client.exchange(server.url, client.sign(client.clientId));
  const own = String(exchanged.json["access_token"]);
  const home = await call(server, "PUT", "/v2/account-management/organization-and-workspace", own, {});
  const { workspace_id: workspaceId } = home.json["workspace"] as { workspace_id: string };
  const made = await call(server, "PUT", "/v2/account-management/user", own, { workspace_id: workspaceId });
  const { user_id: userId } = made.json["user"] as { user_id: string };
  return String((await client.exchange(server.url, client.sign(userId))).json["access_token"]);
}

const RETRY_MS = 100;

/** A client that reads a thread to its end, and comes back whenever its stream breaks: to the next node, with the id of the last event that it was shown. */
export class Reader {
  /** All that it was shown. */
  readonly events: ReceivedEvent[] = [];
  /** What should not have happened. */
  readonly faults: string[] = [];
  /** Streams that it has got, but for the first. */
  reconnects = -1;
  readonly done: Promise<void>;
  private readonly where: { readonly places: readonly Place[]; readonly token: string; readonly threadId: string };
  private isStopped = false;

  constructor(where: Reader["where"], sent: () => Sent | undefined) {
    this.where = where;
    this.done = this.read(sent);
  }

  stop(): void {
    this.isStopped = true;
  }

  private async read(sent: () => Sent | undefined): Promise<void> {
    const isDone = () => this.events.some(isEndOf(sent()?.taskId ?? ""));
    for (let tries = 0; !isDone() && !this.isStopped; tries++) {
      const from = this.events.at(-1)?.id ?? 0;
      const url = this.where.places[tries % this.where.places.length]?.url ?? "";
      const { threadId, token } = this.where;
      const stream = await openStream({ url }, threadId, token, { "last-event-id": String(from) }).catch(() => undefined);
      const status = stream?.response.statusCode;
      if (status !== undefined && status !== 200 && status !== 503) this.faults.push(`a stream was answered ${status}`);
      if (stream !== undefined && status === 200) {
        this.reconnects++;
        await this.take(stream, isDone);
      }
      stream?.close();
      await sleep(RETRY_MS);
    }
  }

  private async take(stream: Awaited<ReturnType<typeof openStream>>, isDone: () => boolean): Promise<void> {
    let taken = 0;
    const take = () => {
      const fresh = stream.events.slice(taken).filter(({ kind }) => kind !== "stream_end");
      taken = stream.events.length;
      this.events.push(...fresh);
      return isDone() || this.isStopped;
    };
    await stream.until(() => take()).catch(() => undefined); // broken off
    take();
  }
}
