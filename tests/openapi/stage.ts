import { connect, createServer, type Socket } from "node:net";
import { inject } from "vitest";
import type { DialectName } from "../../packages/server/src/testing/database.ts";
import { type JwksHost, startJwksHost } from "../../packages/server/src/testing/jwks-host.ts";
import {
  createTestPartner,
  createTestUser,
  exchange,
  OPERATOR_TOKEN,
  serviceAccountToken,
  startTestServer,
  subjectToken,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";

/** Where a scenario plays: a running server, a partner of it, and a token for each way to authenticate. */
export interface Stage {
  readonly server: TestServer;
  readonly partner: TestPartner;
  /** By the name of the security scheme. */
  readonly tokens: Readonly<Record<string, string>>;
  /** Of a key set that the server may fetch. */
  readonly jwks: JwksHost;
  stop(): Promise<void>;
}

export async function openStage(dialect: DialectName, route?: (postgresUrl: string) => string): Promise<Stage> {
  const jwks = await startJwksHost();
  const server = await startTestServer(dialect, { jwksAllowHosts: new Set([jwks.authority]) }, route);
  const partner = await createTestPartner(server);
  const user = await exchange(partner, subjectToken(partner, { sub: (await createTestUser(partner)).userId }));
  const tokens = {
    operator: OPERATOR_TOKEN,
    serviceAccount: await serviceAccountToken(partner),
    user: String(user.json["access_token"]),
  };
  return { server, partner, tokens, jwks, stop: () => server.stop().then(() => jwks.stop()) };
}

/** One whose PostgreSQL went away once all was made. */
export async function openCutStage(): Promise<Stage> {
  const target = new URL(inject("postgresUrl"));
  const ends = new Set<Socket>();
  const line = createServer((near) => {
    const far = connect(Number(target.port), target.hostname);
    for (const end of [near, far]) ends.add(end.on("error", () => undefined).on("close", () => near.destroy()));
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => line.listen(0, "127.0.0.1", resolve));
  const address = line.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const stage = await openStage("postgres", (url) => url.replace(/@[^/]+/, `@127.0.0.1:${port}`));
  line.close();
  for (const end of ends) end.destroy();
  return stage;
}
