import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeAuthority, makeSelfSigned } from "../../packages/server/src/testing/certificates.ts";
import { type JwksHost, startJwksHost } from "../../packages/server/src/testing/jwks-host.ts";
import { admin, exchange, subjectToken } from "../../packages/server/src/testing/server.ts";
import { createJwksPartner, type JwksProcess, startJwksProcess } from "./jwks-partner.ts";
import { freePort, makeDataDir, runCli, startServer } from "./spawn.ts";

/* What the environment of the process can make of the way to partners' keys: a proxy, a certificate check that is off, a list of hosts. */

describe("partners' keys and the environment", () => {
  const authority = makeAuthority();
  const folder = makeDataDir();
  let hosts: { plain: JwksHost; tls: JwksHost; selfSigned: JwksHost };
  let server: JwksProcess;
  let proxied = 0;
  const proxy = createServer((socket) => {
    proxied++;
    socket.destroy();
  });
  beforeAll(async () => {
    hosts = {
      plain: await startJwksHost(),
      tls: await startJwksHost(authority.issue({ host: "localhost" })),
      selfSigned: await startJwksHost(makeSelfSigned({ host: "localhost" })),
    };
    const certificates = join(folder.path, "authority.pem");
    writeFileSync(certificates, authority.cert);
    await new Promise<void>((resolve) => void proxy.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(proxy.address() as { port: number }).port}`;
    const proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"].map((name) => [name, url]);
    server = await startJwksProcess(Object.values(hosts), {
      ...(Object.fromEntries(proxies) as Record<string, string>),
      NODE_USE_ENV_PROXY: "1",
      NO_PROXY: "",
      NODE_TLS_REJECT_UNAUTHORIZED: "0",
      NODE_EXTRA_CA_CERTS: certificates,
    });
  });
  afterAll(async () => {
    await server.kill();
    proxy.close();
    folder.remove();
    await Promise.all(Object.values(hosts).map((host) => host.stop()));
  });

  test("a proxy is not asked, be it http or https", async () => {
    for (const host of [hosts.plain, hosts.tls]) {
      const partner = await createJwksPartner(server, host);
      expect((await exchange(partner, subjectToken(partner))).status).toBe(200);
      expect(partner.set.requestsSince()).toBe(1);
    }
    expect(proxied).toBe(0);
  });

  test("NODE_TLS_REJECT_UNAUTHORIZED=0 does not make a self-signed certificate a good one", async () => {
    const partner = await createJwksPartner(server, hosts.selfSigned);
    const reply = await exchange(partner, subjectToken(partner));
    expect(reply).toMatchObject({ status: 503, json: { error: "temporarily_unavailable" } });
    expect(reply.json["error_description"]).toMatch(/TLS with it failed/);
    expect(partner.set.requestsSince()).toBe(0);
  });

  test("only the hosts that CAMBIST_JWKS_ALLOW_HOSTS lists, by name and port, may be private", async () => {
    const other = await startJwksHost();
    const port = (host: JwksHost) => host.authority.split(":")[1] ?? "";
    for (const url of [
      `http://${other.authority}/jwks.json`,
      `http://localhost:${port(hosts.plain)}/jwks.json`,
      `http://127.0.0.2:${port(hosts.plain)}/jwks.json`,
      `https://127.0.0.1:${port(hosts.tls)}/jwks.json`,
      "https://localhost/jwks.json",
    ]) {
      expect(await admin(server.at, "POST", "/partners", { name: "x", jwks_uri: url }), url).toMatchObject({ status: 422 });
    }
    await other.stop();
  });

  test("a host that is taken off the list is not asked any more, and what is cached serves on", async () => {
    const data = makeDataDir();
    const env = { CAMBIST_DATA_DIR: data.path };
    const port = await freePort();
    const first = await startJwksProcess([hosts.plain], env);
    const [warm, cold] = [await createJwksPartner(first, hosts.plain), await createJwksPartner(first, hosts.plain)];
    expect((await exchange(warm, subjectToken(warm))).status).toBe(200);
    await first.kill();
    const second = await startServer("sandbox", port, env);
    try {
      expect((await exchange(warm, subjectToken(warm), { at: second })).status).toBe(200);
      expect(await exchange(cold, subjectToken(cold), { at: second })).toMatchObject({ status: 503 });
      expect([warm.set.requestsSince(), cold.set.requestsSince()]).toEqual([1, 0]);
    } finally {
      second.signal("SIGKILL");
      await second.exited;
      data.remove();
    }
  });

  test("a list with entries that are no host:port keeps the server from starting, and each is named", async () => {
    const bad = ["localhost", "http://localhost:9000", "localhost:9000/jwks", "LOCALHOST:9000", "localhost:0", "127.1:80", "a b:1"];
    const { code, output } = await runCli(["serve"], { CAMBIST_JWKS_ALLOW_HOSTS: [...bad, "localhost:9000"].join(",") });
    expect(code).not.toBe(0);
    const named = [...output.matchAll(/CAMBIST_JWKS_ALLOW_HOSTS is not a list of host:port.* look at (".*")\./g)];
    expect(named.map(([, host]) => JSON.parse(host ?? "") as string)).toEqual(bad);
  });
});
