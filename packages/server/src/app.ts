import { entityListRoutes } from "./accounts/entities.ts";
import { organizationRoutes } from "./accounts/organizations.ts";
import { userRoutes } from "./accounts/users.ts";
import { workspaceRoutes } from "./accounts/workspaces.ts";
import { partnerSecretRoutes, resourceServerSecretRoutes } from "./admin/client-secrets.ts";
import { partnerKeyRoutes } from "./admin/partner-keys.ts";
import type { AdminDeps } from "./admin/partner-record.ts";
import { partnerRoutes } from "./admin/partners.ts";
import { resourceServerRoutes } from "./admin/resource-servers.ts";
import { revocationRoutes } from "./admin/revocations.ts";
import { scopeRoutes } from "./admin/scopes.ts";
import { signingKeyRoutes } from "./admin/signing-keys.ts";
import type { Deps } from "./deps.ts";
import { errorPageRoutes } from "./docs/error-pages.ts";
import { withApiDescription } from "./docs/openapi.ts";
import { authenticator } from "./http/auth.ts";
import { clientAddress } from "./http/client-address.ts";
import { healthRoutes } from "./http/health.ts";
import type { Route } from "./http/route.ts";
import type { Overload } from "./http/overload.ts";
import { httpServer, type RouterPorts } from "./http/router.ts";
import { tokenStatusRoutes } from "./oauth/introspect.ts";
import { type OAuthPorts, oauthPorts } from "./oauth/ports.ts";
import { revocationFeedRoutes } from "./oauth/revocation-feed.ts";
import { tokenRoutes } from "./oauth/token.ts";
import { v1AuthTokenRoutes } from "./oauth/v1-auth-token.ts";
import { conversations } from "./threads/conversations.ts";
import { resourceMetadataUrl, wellKnownRoutes } from "./oauth/well-known.ts";

export interface App {
  readonly routes: readonly Route[];
  /** Gives the port. */
  start(): Promise<number>;
  /** Not ready at once, no new connection, requests under way finish within STOP_MS_MAX, then the store closes. */
  stop(): Promise<void>;
}

const STOP_MS_MAX = 9_000;
/** Of them, for answers that are under way. */
const ANSWERS_MS_MAX = 7_000;
const PURGE_EVERY_MS = 60_000;

/** The server, whole, out of its parts. */
export function createApp(deps: Deps): App {
  const { config, store, keyring, log, metrics, overload, nowMs } = deps;
  let stopping = false;
  const ports = routerPorts(deps);
  const { threads, tasks, accounts, tokens } = store;
  const threadsAtWork = conversations({
    threads,
    tasks,
    accounts,
    tokens,
    agent: deps.agent,
    authenticate: ports.authenticate,
    nowMs,
    log,
    metrics,
  });
  const routes = withApiDescription([...allRoutes(deps, () => stopping), ...threadsAtWork.routes], config.publicUrl);
  const server = httpServer(routes, ports);
  let purging: NodeJS.Timeout | undefined;
  let unwatch: (() => void) | undefined;
  return {
    routes,
    async start() {
      const port = await server.listen(config.host, config.port);
      purging = setInterval(() => {
        purge(store, nowMs()).catch((error: unknown) => log.warn("purge failed", { error }));
      }, PURGE_EVERY_MS);
      purging.unref();
      unwatch = overload.watch();
      threadsAtWork.start();
      return port;
    },
    async stop() {
      stopping = true;
      clearInterval(purging);
      unwatch?.();
      await Promise.all([threadsAtWork.stop(ANSWERS_MS_MAX), server.close(STOP_MS_MAX), keyring.close()]);
      await store.close();
    },
  };
}

async function purge({ exchanges, accounts, tokens, tasks }: Deps["store"], nowMs: number): Promise<void> {
  await Promise.all([exchanges.purgeSpent(nowMs), accounts.purgeRepeated(nowMs), tokens.purge(nowMs), tasks.purgeEvents(nowMs)]);
}

export function routerPorts({ config, store, resource, liveTokens, quotas, log, metrics, overload }: Deps): RouterPorts {
  const authenticate = authenticator({
    resource,
    resourceMetadataUrl: resourceMetadataUrl(resource),
    operatorToken: config.operatorToken,
    tokens: liveTokens,
    quotas,
  });
  const forwarded = clientAddress(config.trustedProxies, () =>
    log.warn("X-Forwarded-For of an address that CAMBIST_TRUSTED_PROXIES does not list is not looked at; if it is your proxy, list it"),
  );
  const basePath = new URL(config.publicUrl).pathname.replace(/\/$/, "");
  const isOriginAllowed = (origin: string) => store.partners.isOriginAllowed(origin);
  return { authenticate, clientAddress: forwarded, log, metrics, basePath, issuer: config.publicUrl, overload, isOriginAllowed };
}

export function adminDeps({ config, store, masterKeys, keyring, outbound, partnerKeys, resource, scopes, nowMs, log }: Deps): AdminDeps {
  const issuer = config.publicUrl;
  return { ...store, masterKeys, keyring, outbound, partnerKeys, issuer, resource, onScopesChanged: () => scopes.forget(), nowMs, log };
}

/** A request that waits for a partner's keys, or for the second after a cut-off, is no load: it must not keep others out. */
function withWaitsAside({ token, introspection, revocation }: OAuthPorts, overload: Overload): OAuthPorts {
  const partnerKeys: typeof token.partnerKeys = (client, kid) => overload.aside(token.partnerKeys(client, kid));
  return {
    token: { ...token, partnerKeys, waitMs: (ms) => overload.aside(token.waitMs(ms)) },
    introspection: { ...introspection, partnerKeys },
    revocation: { ...revocation, partnerKeys },
  };
}

function allRoutes(deps: Deps, isStopping: () => boolean): Route[] {
  const { config, store, keyring, resource, scopes, log, metrics, overload, nowMs } = deps;
  const issuer = config.publicUrl;
  const ports = withWaitsAside(oauthPorts({ ...deps, issuer }), overload);
  const accounts = { accounts: store.accounts, nowMs, log };
  return [
    ...tokenRoutes({ ports: ports.token, log, metrics }),
    ...v1AuthTokenRoutes({ ports: ports.token, log, metrics }),
    ...tokenStatusRoutes({ ...ports, issuer, log }),
    ...revocationFeedRoutes({ caller: ports.introspection, tokens: store.tokens, issuer, log, nowMs }),
    ...wellKnownRoutes({ issuer, resource, scopes, keyring }),
    ...organizationRoutes(accounts),
    ...workspaceRoutes(accounts),
    ...userRoutes(accounts),
    ...entityListRoutes(accounts),
    ...partnerRoutes(adminDeps(deps)),
    ...partnerSecretRoutes(adminDeps(deps)),
    ...partnerKeyRoutes(adminDeps(deps)),
    ...signingKeyRoutes(adminDeps(deps)),
    ...resourceServerRoutes(adminDeps(deps)),
    ...resourceServerSecretRoutes(adminDeps(deps)),
    ...scopeRoutes(adminDeps(deps)),
    ...revocationRoutes(adminDeps(deps)),
    ...errorPageRoutes(),
    ...healthRoutes({ store, metrics, overload, isStopping }),
  ];
}
