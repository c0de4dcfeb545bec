import type { ScopeDefinition } from "@cambist/protocol";
import type { ResourceServerStore } from "../storage/token-store.ts";

/** What the operator changes is seen after this, on every node; a scope that a partner is newly allowed, at once. */
const FRESH_MS = 5_000;

export interface ScopeCatalogPorts {
  readonly store: Pick<ResourceServerStore, "listScopes">;
  /** Of our own API. */
  readonly resource: string;
  readonly nowMs: () => number;
}

/** Every scope there is, as it was read last: it changes rarely, and each exchange needs it. */
export class ScopeCatalog {
  private readonly ports: ScopeCatalogPorts;
  private scopes: readonly ScopeDefinition[] = [];
  private readAtMs = Number.NEGATIVE_INFINITY;

  constructor(ports: ScopeCatalogPorts) {
    this.ports = ports;
  }

  /** Ours first. Those of `names` are among them, if they exist. @throws StoreUnavailable */
  find(names: readonly string[]): readonly ScopeDefinition[] | Promise<readonly ScopeDefinition[]> {
    const isFresh = this.ports.nowMs() - this.readAtMs < FRESH_MS;
    return isFresh && names.every((name) => this.scopes.some((scope) => scope.name === name)) ? this.scopes : this.read();
  }

  private async read(): Promise<readonly ScopeDefinition[]> {
    const { store, resource, nowMs } = this.ports;
    const readAtMs = nowMs();
    const stored = await store.listScopes();
    this.scopes = stored.map(({ name, principal, audience }) => ({ name, principal, audience: audience ?? resource }));
    this.readAtMs = readAtMs;
    return this.scopes;
  }
}
