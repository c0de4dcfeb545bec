import { connect, createServer, type Socket } from "node:net";

/** The way to PostgreSQL, with a test standing in it. */
export interface PostgresLine {
  /** The same database by this line, for `startTestServer`. */
  route(postgresUrl: string): string;
  /** Ends every connection, and takes no new one. */
  cut(): void;
  restore(): void;
  /**
   * Of the commits from here on, the one that comes after so many others still arrives; its answer does not. Only transactions that
   * name `of` are counted (an id among their values): the server writes on its own account too.
   */
  loseCommit(after: number, of: string): void;
  /** All of them arrive again. */
  keepCommits(): void;
  close(): void;
}

const TRANSACTION_MAX = 65_536;

export async function openPostgresLine(target: URL): Promise<PostgresLine> {
  const ends = new Set<Socket>();
  let isCut = false;
  let loss = { commitsBefore: Infinity, of: "" };
  const listener = createServer((near) => {
    if (isCut) return void near.destroy();
    const far = connect(Number(target.port), target.hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      ends.add(from);
      from.on("error", () => undefined);
      from.on("close", () => to.destroy());
    }
    far.pipe(near);
    let transaction = ""; // its end, if it is a long one
    near.on("data", (chunk) => {
      const text = chunk.toString("latin1");
      transaction = (transaction + text).slice(-TRANSACTION_MAX);
      const isOver = /commit\0/i.test(text);
      const isCounted = isOver && transaction.includes(loss.of);
      if (isOver) transaction = "";
      if (!isCounted || loss.commitsBefore-- > 0) return void far.write(chunk);
      loss = { commitsBefore: Infinity, of: "" };
      far.unpipe(near);
      far.end(chunk);
      far.once("data", () => near.destroy()).resume(); // the answer: it was committed
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    route: (postgresUrl) => postgresUrl.replace(/@[^/]+/, `@127.0.0.1:${port}`),
    cut() {
      isCut = true;
      for (const end of ends) end.destroy();
    },
    restore: () => void (isCut = false),
    loseCommit: (after, of) => void (loss = { commitsBefore: after, of }),
    keepCommits: () => void (loss.commitsBefore = Infinity),
    close: () => void listener.close(),
  };
}
