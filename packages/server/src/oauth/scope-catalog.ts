import { BUILT_IN_SCOPES, type ScopeDefinition, StoreUnavailable } from "@cambist/protocol";
import type { ResourceServerStore } from "../storage/token-store.ts";

/** What the operator changes is seen after this on other nodes, on this one at once; a scope that a partner is newly allowed, at once. */
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
  private scopes: readonly ScopeDefinition[];
  private readAtMs = Number.NEGATIVE_INFINITY;
  private reading: Promise<readonly ScopeDefinition[]> | undefined;

  constructor(ports: ScopeCatalogPorts) {
    this.ports = ports;
    this.scopes = BUILT_IN_SCOPES.map((scope) => ({ ...scope, audience: ports.resource }));
  }

  /** Ours first. Those of `names` are among them, if they exist. @throws StoreUnavailable */
  find(names: readonly string[]): readonly ScopeDefinition[] | Promise<readonly ScopeDefinition[]> {
    const isFresh = this.ports.nowMs() - this.readAtMs < FRESH_MS;
    return isFresh && names.every((name) => this.scopes.some((scope) => scope.name === name)) ? this.scopes : this.read();
  }

  /** For what is published: as it was read last, where the store does not answer. */
  async list(): Promise<readonly ScopeDefinition[]> {
    try {
      return await this.find([]);
    } catch (thrown) {
      if (thrown instanceof StoreUnavailable) return this.scopes;
      throw thrown;
    }
  }

  /** After a change by this node: what was read before, or is being read, counts no more. */
  forget(): void {
    this.readAtMs = Number.NEGATIVE_INFINITY;
    this.reading = undefined;
  }

  /** One at a time, for all that ask. */
  private read(): Promise<readonly ScopeDefinition[]> {
    if (this.reading !== undefined) return this.reading;
    const reading: Promise<readonly ScopeDefinition[]> = this.readStored(() => this.reading === reading).finally(() => {
      if (this.reading === reading) this.reading = undefined;
    });
    this.reading = reading;
    return reading;
  }

  private async readStored(isLatest: () => boolean): Promise<readonly ScopeDefinition[]> {
    const { store, resource, nowMs } = this.ports;
    const readAtMs = nowMs();
    const stored = await store.listScopes();
    const scopes = stored.map(({ name, principal, audience }) => ({ name, principal, audience: audience ?? resource }));
    if (isLatest()) {
      this.scopes = scopes;
      this.readAtMs = readAtMs;
    }
    return scopes;
  }
}
