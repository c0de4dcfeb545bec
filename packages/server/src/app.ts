import { entityListRoutes } from "./accounts/entities.ts";
import { organizationRoutes } from "./accounts/organizations.ts";
import { userRoutes } from "./accounts/users.ts";
import { workspaceRoutes } from "./accounts/workspaces.ts";
import { partnerKeyRoutes } from "./admin/partner-keys.ts";
import { partnerSecretRoutes } from "./admin/partner-secrets.ts";
import type { AdminDeps } from "./admin/partner-record.ts";
import { partnerRoutes } from "./admin/partners.ts";
import { signingKeyRoutes } from "./admin/signing-keys.ts";
import type { Deps } from "./deps.ts";
import { errorPageRoutes } from "./docs/error-pages.ts";
import { withApiDescription } from "./docs/openapi.ts";
import { authenticator } from "./http/auth.ts";
import { healthRoutes } from "./http/health.ts";
import type { Route } from "./http/route.ts";
import { httpServer, type RouterPorts } from "./http/router.ts";
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
  const { config, store, log, nowMs } = deps;
  let stopping = false;
  const routes = withApiDescription(
    allRoutes(deps, () => stopping),
    config.publicUrl,
  );
  const server = httpServer(routes, routerPorts(deps));
  let purging: NodeJS.Timeout | undefined;
  return {
    routes,
    async start() {
      const port = await server.listen(config.host, config.port);
      purging = setInterval(() => {
        const purged = [store.exchanges.purgeSpent(nowMs()), store.accounts.purgeRepeated(nowMs())];
        Promise.all(purged).catch((error: unknown) => log.warn("purge failed", { error }));
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

export function routerPorts({ config, store, keyring, log, metrics, nowMs }: Deps): RouterPorts {
  const authenticate = authenticator({
    issuer: config.publicUrl,
    resource: apiResource(config.publicUrl),
    operatorToken: config.operatorToken,
    partners: store.partners,
    accounts: store.accounts,
    findKey: (kid) => keyring.findKey(kid),
    nowMs,
    restoredAtSeconds: store.restoredAtSeconds,
  });
  return { authenticate, log, metrics, basePath: new URL(config.publicUrl).pathname.replace(/\/$/, "") };
}

/** The resource identifier of our API, and so the `aud` of every access token: never the issuer (contract §1). */
function apiResource(publicUrl: string): string {
  return `${publicUrl}/v2`;
}

export function adminDeps({ config, store, masterKeys, keyring, outbound, partnerKeys, nowMs, log }: Deps): AdminDeps {
  const { accounts, partners, partnerJwks, signingKeys } = store;
  return { accounts, partners, partnerJwks, signingKeys, masterKeys, keyring, outbound, partnerKeys, issuer: config.publicUrl, nowMs, log };
}

function allRoutes(deps: Deps, isStopping: () => boolean): Route[] {
  const { config, store, keyring, partnerKeys, masterKeys, log, metrics, nowMs } = deps;
  const issuer = config.publicUrl;
  const ports = tokenEndpointPorts({ issuer, resource: apiResource(issuer), store, partnerKeys, masterKeys, keyring, nowMs });
  const accounts = { accounts: store.accounts, nowMs, log };
  return [
    ...tokenRoutes({ ports, log, metrics }),
    ...wellKnownRoutes({ issuer, keyring }),
    ...organizationRoutes(accounts),
    ...workspaceRoutes(accounts),
    ...userRoutes(accounts),
    ...entityListRoutes(accounts),
    ...partnerRoutes(adminDeps(deps)),
    ...partnerSecretRoutes(adminDeps(deps)),
    ...partnerKeyRoutes(adminDeps(deps)),
    ...signingKeyRoutes(adminDeps(deps)),
    ...errorPageRoutes(),
    ...healthRoutes({ store, metrics, isStopping }),
  ];
}
