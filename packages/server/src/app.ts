import { organizationRoutes } from "./accounts/organizations.ts";
import { userRoutes } from "./accounts/users.ts";
import { partnerKeyRoutes } from "./admin/partner-keys.ts";
import { partnerSecretRoutes } from "./admin/partner-secrets.ts";
import type { AdminDeps } from "./admin/partner-record.ts";
import { partnerRoutes } from "./admin/partners.ts";
import { signingKeyRoutes } from "./admin/signing-keys.ts";
import type { Deps } from "./deps.ts";
import { errorPageRoutes } from "./docs/error-pages.ts";
import { authenticator } from "./http/auth.ts";
import { healthRoutes } from "./http/health.ts";
import type { Route } from "./http/route.ts";
import { httpServer } from "./http/router.ts";
import { tokenEndpointPorts } from "./oauth/ports.ts";
import { tokenRoutes } from "./oauth/token.ts";
import { wellKnownRoutes } from "./oauth/well-known.ts";

export interface App {
  readonly routes: readonly Route[];
  /** Gives the port. */
  start(): Promise<number>;
  /** Not ready at once, no new connection, requests under way finish within STOP_MS_MAX, then the store closes. */
  stop(): Promise<void>;
}

const STOP_MS_MAX = 9_000;
const PURGE_EVERY_MS = 60_000;

/** The server, whole, out of its parts. */
export function createApp(deps: Deps): App {
  const { config, store, keyring, log, metrics, nowMs } = deps;
  let stopping = false;
  const routes = allRoutes(deps, () => stopping);
  const authenticate = authenticator({
    issuer: config.publicUrl,
    resource: apiResource(config.publicUrl),
    operatorToken: config.operatorToken,
    partners: store.partners,
    findKey: (kid) => keyring.findKey(kid),
    nowMs,
    restoredAtSeconds: store.restoredAtSeconds,
  });
  const basePath = new URL(config.publicUrl).pathname.replace(/\/$/, "");
  const server = httpServer(routes, { authenticate, log, metrics, basePath });
  let purging: NodeJS.Timeout | undefined;
  return {
    routes,
    async start() {
      const port = await server.listen(config.host, config.port);
      purging = setInterval(() => {
        store.exchanges.purgeSpent(nowMs()).catch((error: unknown) => log.warn("purge failed", { error }));
      }, PURGE_EVERY_MS);
      purging.unref();
      return port;
    },
    async stop() {
      stopping = true;
      clearInterval(purging);
      await server.close(STOP_MS_MAX);
      await store.close();
    },
  };
}

/** The resource identifier of our API, and so the `aud` of every access token: never the issuer (contract §1). */
function apiResource(publicUrl: string): string {
  return `${publicUrl}/v2`;
}

export function adminDeps({ config, store, masterKeys, keyring, outbound, partnerKeys, nowMs, log }: Deps): AdminDeps {
  const { partners, partnerJwks, signingKeys } = store;
  return { partners, partnerJwks, signingKeys, masterKeys, keyring, outbound, partnerKeys, issuer: config.publicUrl, nowMs, log };
}

function allRoutes(deps: Deps, isStopping: () => boolean): Route[] {
  const { config, store, keyring, partnerKeys, masterKeys, log, metrics, nowMs } = deps;
  const issuer = config.publicUrl;
  const ports = tokenEndpointPorts({ issuer, resource: apiResource(issuer), store, partnerKeys, masterKeys, keyring, nowMs });
  const accounts = { accounts: store.accounts, nowMs };
  return [
    ...tokenRoutes({ ports, log, metrics }),
    ...wellKnownRoutes({ issuer, keyring }),
    ...organizationRoutes(accounts),
    ...userRoutes(accounts),
    ...partnerRoutes(adminDeps(deps)),
    ...partnerSecretRoutes(adminDeps(deps)),
    ...partnerKeyRoutes(adminDeps(deps)),
    ...signingKeyRoutes(adminDeps(deps)),
    ...errorPageRoutes(),
    ...healthRoutes({ store, metrics, isStopping }),
  ];
}
