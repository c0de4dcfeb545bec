import type { JwksHost, PublishedJwks } from "../../packages/server/src/testing/jwks-host.ts";
import { makeTestKey } from "../../packages/server/src/testing/jwt.ts";
import { createTestPartner, ISSUER, OPERATOR_TOKEN, type TestPartner, type TestServer } from "../../packages/server/src/testing/server.ts";
import { makeDataDir, freePort, type ServerProcess, startServer } from "./spawn.ts";

/** A running server, as the partners of the test harness know one. */
export interface JwksProcess {
  readonly process: ServerProcess;
  readonly at: TestServer;
  kill(): Promise<void>;
}

/** The real process, which may fetch from these hosts. */
export async function startJwksProcess(hosts: readonly JwksHost[], env: Record<string, string> = {}): Promise<JwksProcess> {
  const dataDir = makeDataDir();
  const process = await startServer("sandbox", await freePort(), {
    CAMBIST_DATA_DIR: dataDir.path,
    CAMBIST_OPERATOR_TOKEN: OPERATOR_TOKEN,
    CAMBIST_JWKS_ALLOW_HOSTS: hosts.map(({ authority }) => authority).join(","),
    CAMBIST_LOG_LEVEL: "warn",
    ...env,
  });
  return {
    process,
    at: { url: process.url, nowSeconds: () => Math.floor(Date.now() / 1000) } as TestServer, // all that its partners ask of it
    async kill() {
      process.signal("SIGKILL");
      await process.exited;
      dataDir.remove();
    },
  };
}

export interface JwksPartner extends TestPartner {
  readonly set: PublishedJwks;
}

/** A partner whose key stands at a URL of this host. The audience is the one of the test harness. */
export async function createJwksPartner(
  { at }: Pick<JwksProcess, "at">,
  host: JwksHost,
  headers: Record<string, string> = {},
): Promise<JwksPartner> {
  const key = makeTestKey("ES256");
  const set = host.publish([key], headers);
  return { ...(await createTestPartner(at, { jwks: undefined, jwks_uri: set.url, audience: ISSUER }, key)), set };
}
