import { expect } from "vitest";
import { makeAuthority, type TestAuthority } from "../../packages/server/src/testing/certificates.ts";
import type { DialectName } from "../../packages/server/src/testing/database.ts";
import { type JwksHost, type PublishedJwks, startJwksHost } from "../../packages/server/src/testing/jwks-host.ts";
import { makeTestKey, type TestKey } from "../../packages/server/src/testing/jwt.ts";
import {
  admin,
  createTestPartner,
  type Reply,
  startTestServer,
  type TestPartner,
  type TestServer,
} from "../../packages/server/src/testing/server.ts";
import { expectRefusal } from "./expect-refusal.ts";

/** A server that may fetch key sets from two hosts of this machine, and resolves host names as the test says. */
export interface JwksSetting {
  readonly server: TestServer;
  readonly host: JwksHost;
  readonly tlsHost: JwksHost;
  readonly authority: TestAuthority;
  /** Addresses by host name, or what its name server does; a name that is not here does not resolve. */
  readonly names: Map<string, readonly string[] | "fails" | "hangs">;
  stop(): Promise<void>;
}

export const TLS_HOST = "localhost";

/** @param listed hosts of the test's own. */
export async function startJwksSetting(dialect: DialectName, listed: readonly string[] = []): Promise<JwksSetting> {
  const authority = makeAuthority();
  const host = await startJwksHost();
  const tlsHost = await startJwksHost(authority.issue({ host: TLS_HOST }));
  const names: JwksSetting["names"] = new Map([[TLS_HOST, ["127.0.0.1"]]]);
  async function resolve(name: string): Promise<{ address: string; family: number }[]> {
    const addresses = names.get(name) ?? [];
    if (addresses === "fails") throw new Error("SERVFAIL");
    if (addresses === "hangs") return new Promise(() => undefined);
    return addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
  }
  const jwksAllowHosts = new Set([host.authority, tlsHost.authority, ...listed]);
  const server = await startTestServer(dialect, { jwksAllowHosts, network: { resolve, ca: authority.cert } });
  return {
    server,
    host,
    tlsHost,
    authority,
    names,
    async stop() {
      await server.stop();
      await Promise.all([host.stop(), tlsHost.stop()]);
    },
  };
}

/** A partner behind a `jwks_uri`. */
export interface JwksPartner extends TestPartner {
  readonly set: PublishedJwks;
}

/** Its key is published, beside others. */
export async function createJwksPartner(
  { server, host }: Pick<JwksSetting, "server" | "host">,
  options: { key?: TestKey; beside?: readonly (TestKey | object)[]; headers?: Record<string, string>; fields?: object } = {},
): Promise<JwksPartner> {
  const { key = makeTestKey("ES256"), beside = [], headers = {}, fields = {} } = options;
  const set = host.publish([key, ...beside], headers);
  return { ...(await createTestPartner(server, { jwks: undefined, jwks_uri: set.url, ...fields }, key)), set };
}

/** The operator's view of its keys. */
export async function keyReport(server: TestServer, { clientId }: TestPartner): Promise<KeyReport> {
  return (await admin(server, "GET", `/partners/${clientId}/keys`)).json as unknown as KeyReport;
}

export function refreshKeys(server: TestServer, { clientId }: TestPartner): Promise<Reply> {
  return admin(server, "POST", `/partners/${clientId}/keys/refresh`);
}

export interface KeyReport {
  readonly failing: boolean;
  readonly last_fetch_at: string | null;
  readonly fresh_until: string | null;
  readonly last_failure_at: string | null;
  readonly last_failure: string | null;
  readonly keys: readonly {
    readonly kid: string | null;
    readonly algorithm: string | null;
    readonly thumbprint: string | null;
    readonly state: "used" | "refused" | "gone";
    readonly reason: string | null;
    readonly first_seen_at: string;
    readonly last_seen_at: string;
  }[];
}

/** 503 with Retry-After, and a description that says what became of the fetch, and not where it went. */
export async function expectUnavailable(server: TestServer, reply: Reply, why: RegExp): Promise<void> {
  await expectRefusal(server, reply, { status: 503, error: "temporarily_unavailable", code: "partner_keys_unavailable" });
  expect(Number(reply.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
  expect(Number(reply.headers.get("retry-after"))).toBeLessThanOrEqual(30);
  expect(reply.json["error_description"]).toMatch(why);
  expect(reply.text).not.toMatch(/127\.0\.0\.1|localhost|jwks\.json/);
}

export function atOnce<T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => work(index)));
}

/** For what it was that they were refused, each cause once; a status where one was granted. */
export function causesOf(replies: readonly Reply[]): (string | number)[] {
  const causes = replies.map(({ json, status }) => (json["error_uri"] as string | undefined)?.split("/").at(-1) ?? status);
  return [...new Set(causes)];
}
