import { connect, createServer, type Socket } from "node:net";

/** The way to PostgreSQL, with a test standing in it. */
export interface PostgresLine {
  /** The same database by this line, for `startTestServer`. */
  route(postgresUrl: string): string;
  /** Ends every connection, and takes no new one. */
  cut(): void;
  restore(): void;
  /** Of the commits from here on, the one that comes after so many others still arrives; its answer does not. */
  loseCommit(after: number): void;
  close(): void;
}

export async function openPostgresLine(target: URL): Promise<PostgresLine> {
  const ends = new Set<Socket>();
  let isCut = false;
  let commitsBefore = Infinity;
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
    near.on("data", (chunk) => {
      if (!/commit\0/i.test(chunk.toString("latin1")) || commitsBefore-- > 0) return void far.write(chunk);
      commitsBefore = Infinity;
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
    loseCommit: (after) => void (commitsBefore = after),
    close: () => void listener.close(),
  };
}
