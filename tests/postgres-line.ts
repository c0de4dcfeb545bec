import { connect, createServer, type Socket } from "node:net";

/** The way to PostgreSQL, with a test standing in it. */
export interface PostgresLine {
  /** The same database by this line, for `startTestServer`. */
  route(postgresUrl: string): string;
  /** Ends every connection, and takes no new one. */
  cut(): void;
  restore(): void;
  close(): void;
}

export async function openPostgresLine(target: URL): Promise<PostgresLine> {
  const ends = new Set<Socket>();
  let isCut = false;
  const listener = createServer((near) => {
    if (isCut) return void near.destroy();
    const far = connect(Number(target.port), target.hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      ends.add(from);
      from.pipe(to);
      from.on("error", () => undefined);
      from.on("close", () => to.destroy());
    }
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
    close: () => void listener.close(),
  };
}
