import { type Kind, KINDS, ORGANIZATION, USER, WORKSPACE } from "../attacks/a9-setting.ts";

/** What the account API promises (contract §5), as plain maps: three partners that know nothing of one another. */

/** As on the wire. */
export type Entity = Readonly<Record<string, unknown>>;

export interface Row {
  readonly kind: Kind;
  readonly partner: number;
  readonly id: string;
  readonly entity: Entity;
  readonly etag: string;
  /** Of its last state but this. */
  readonly etagBefore?: string | undefined;
}

export type Key = { readonly id: string } | { readonly externalId: string };

/** Ids and external ids of each level, as a list takes them. */
export interface Filters {
  readonly kinds: readonly Kind[];
  readonly levels: readonly { readonly kind: Kind; readonly ids: readonly string[]; readonly externalIds: readonly string[] }[];
}

export const PARTNERS = 3;

export class Model {
  readonly rows = new Map<string, Row>();
  /** Ids of what has been erased, of all partners. */
  readonly erased: { readonly kind: Kind; readonly id: string }[] = [];

  rowsOf(kind: Kind, partner: number): Row[] {
    return [...this.rows.values()].filter((row) => row.kind === kind && row.partner === partner);
  }

  find(kind: Kind, partner: number, key: Key): Row | undefined {
    return this.rowsOf(kind, partner).find((row) => ("id" in key ? row.id === key.id : row.entity[kind.externalId] === key.externalId));
  }

  isTaken(kind: Kind, partner: number, externalId: unknown, by?: Row): boolean {
    return (
      typeof externalId === "string" && this.rowsOf(kind, partner).some((row) => row !== by && row.entity[kind.externalId] === externalId)
    );
  }

  /** What a creation is answered with, and, where that is 201, the entity but for its own id. */
  create(kind: Kind, partner: number, body: Entity): { status: 201; entity: Entity } | { status: 404 | 409 } {
    const parent =
      kind.parent === undefined
        ? undefined
        : this.find(kind === USER ? WORKSPACE : ORGANIZATION, partner, { id: String(body[kind.parent]) });
    if (kind.parent !== undefined && parent === undefined) return { status: 404 };
    if (this.isTaken(kind, partner, body[kind.externalId])) return { status: 409 };
    const fields = Object.fromEntries(kind.fields.map((field) => [field, body[field] ?? null]));
    const parents = {
      ...(kind === USER ? { workspace_id: parent?.id, org_id: parent?.entity["org_id"] } : {}),
      ...(kind === WORKSPACE ? { org_id: parent?.id } : {}),
    };
    return { status: 201, entity: { ...fields, ...parents, entitlements: body["entitlements"] ?? [], status: "active" } };
  }

  put(row: Row): void {
    this.rows.set(row.id, row);
  }

  /** `ifMatch`: the tag, or undefined. Where it is 200, the entity as it is then. */
  update(
    kind: Kind,
    partner: number,
    key: Key,
    { change, ifMatch }: { change: Entity; ifMatch: string | undefined },
  ): { status: 200; row: Row; entity: Entity } | { status: 404 | 409 | 412 } {
    const row = this.find(kind, partner, key);
    if (row === undefined) return { status: 404 };
    if (ifMatch !== undefined && ifMatch !== row.etag) return { status: 412 };
    const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== null && value !== undefined));
    if (this.isTaken(kind, partner, given[kind.externalId], row)) return { status: 409 };
    return { status: 200, row, entity: { ...row.entity, ...given } };
  }

  /** Erases where it is 200. */
  erase(
    kind: Kind,
    partner: number,
    key: Key,
    { cascade, ifMatch }: { cascade: boolean; ifMatch: string | undefined },
  ): 200 | 404 | 409 | 412 {
    const row = this.find(kind, partner, key);
    if (row === undefined) return 404;
    if (ifMatch !== undefined && ifMatch !== row.etag) return 412;
    const below = this.below(row);
    if (below.length > 0 && !cascade) return 409;
    for (const gone of [row, ...below]) {
      this.rows.delete(gone.id);
      this.erased.push(gone);
    }
    return 200;
  }

  private below({ kind, id, partner }: Row): Row[] {
    return [...this.rows.values()].filter((row) => row.partner === partner && row.id !== id && row.entity[kind.id] === id);
  }

  /** Every filter that is given must hold; one by what lies below a kind leaves that kind out. */
  list(partner: number, { kinds, levels }: Filters): Row[] {
    const named = levels.map(({ kind, ids, externalIds }) => ({
      kind,
      ids: new Set([...ids, ...externalIds.flatMap((externalId) => this.find(kind, partner, { externalId })?.id ?? [])]),
    }));
    return KINDS.filter((kind) => kinds.includes(kind)).flatMap((kind) =>
      this.rowsOf(kind, partner).filter((row) =>
        named.every((level) => KINDS.indexOf(level.kind) <= KINDS.indexOf(kind) && level.ids.has(String(row.entity[level.kind.id]))),
      ),
    );
  }
}

/** Models that are wrong in one thing each: a test that does not find it would not find it in the server either. */
export const WRONG_MODELS: readonly (readonly [string, new () => Model])[] = [
  [
    "an external id is taken when another partner has it",
    class extends Model {
      override isTaken(kind: Kind, partner: number, externalId: unknown, by?: Row): boolean {
        return [0, 1, 2].some((other) => super.isTaken(kind, other, externalId, other === partner ? by : undefined));
      }
    },
  ],
  [
    "an id finds another partner's row",
    class extends Model {
      override find(kind: Kind, partner: number, key: Key): Row | undefined {
        return super.find(kind, partner, key) ?? ("id" in key ? super.find(kind, (partner + 1) % PARTNERS, key) : undefined);
      }
    },
  ],
  [
    "an external id finds another partner's row",
    class extends Model {
      override find(kind: Kind, partner: number, key: Key): Row | undefined {
        return super.find(kind, partner, key) ?? ("externalId" in key ? super.find(kind, (partner + 1) % PARTNERS, key) : undefined);
      }
    },
  ],
  [
    "a list holds another partner's rows",
    class extends Model {
      override list(partner: number, filters: Filters): Row[] {
        return [...super.list(partner, filters), ...super.list((partner + 2) % PARTNERS, filters)];
      }
    },
  ],
  [
    "external ids are the same in any letter case",
    class extends Model {
      override isTaken(kind: Kind, partner: number, externalId: unknown, by?: Row): boolean {
        const [lower, upper] = [String(externalId).toLowerCase(), String(externalId).toUpperCase()];
        return typeof externalId === "string" && [externalId, lower, upper].some((text) => super.isTaken(kind, partner, text, by));
      }
    },
  ],
  [
    "null takes a field away",
    class extends Model {
      override update(...[kind, partner, key, { change, ifMatch }]: Parameters<Model["update"]>): ReturnType<Model["update"]> {
        const updated = super.update(kind, partner, key, { change, ifMatch });
        return updated.status === 200 && change["name"] === null ? { ...updated, entity: { ...updated.entity, name: null } } : updated;
      }
    },
  ],
  [
    "a stale ETag does no harm",
    class extends Model {
      override update(...[kind, partner, key, { change }]: Parameters<Model["update"]>): ReturnType<Model["update"]> {
        return super.update(kind, partner, key, { change, ifMatch: undefined });
      }
    },
  ],
  [
    "what has children is erased",
    class extends Model {
      override erase(...[kind, partner, key, { ifMatch }]: Parameters<Model["erase"]>): ReturnType<Model["erase"]> {
        return super.erase(kind, partner, key, { cascade: true, ifMatch });
      }
    },
  ],
  [
    "an erased parent is still one",
    class extends Model {
      override create(kind: Kind, partner: number, body: Entity): ReturnType<Model["create"]> {
        const created = super.create(kind, partner, body);
        const isErased = this.erased.some((row) => row.id === body["org_id"]);
        return created.status === 404 && isErased ? { status: 409 } : created;
      }
    },
  ],
];
