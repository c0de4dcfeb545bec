import * as fc from "fast-check";
import { type Kind, KINDS } from "../attacks/a9-setting.ts";
import { type Key, type Model, PARTNERS, type Row } from "./model.ts";

/* What a command is about: chosen when it runs, out of what there is then. */

/** Whose: the one's who asks, another's, what has been erased, or what never was. */
export interface Choice {
  readonly whose: "own" | "foreign" | "erased" | "absent";
  readonly pick: number;
}

/** A text, or the id of some entity: an external id that looks like an id of ours. */
export type ExternalId = { readonly text: string } | { readonly idOf: Choice } | undefined;
export type IfMatch = "none" | "current" | "stale" | "another's";

/** Few, so that they are met again, and near to one another. */
const TEXTS = ["a", "A", "ä", "a\u0308", "b c", "b+c", "x?y&z=1", "%61", "🦊", "0"];

export const partner = fc.nat({ max: PARTNERS - 1 });
export const kind = fc.constantFrom(...KINDS);
const pick = fc.nat({ max: 1_000 });
export const choice: fc.Arbitrary<Choice> = fc.record({
  whose: fc.oneof(
    { weight: 10, arbitrary: fc.constant("own" as const) },
    { weight: 3, arbitrary: fc.constant("foreign" as const) },
    fc.constantFrom("erased", "absent"),
  ),
  pick,
});
export const externalId: fc.Arbitrary<ExternalId> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...TEXTS).map((text) => ({ text })) },
  { weight: 2, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: choice.map((idOf) => ({ idOf })) },
);
export const key = fc.record({ choice, by: fc.constantFrom("id" as const, "externalId" as const) });
export type ChosenKey = typeof key extends fc.Arbitrary<infer T> ? T : never;
export const ifMatch: fc.Arbitrary<IfMatch> = fc.oneof(
  { weight: 4, arbitrary: fc.constant("none" as const) },
  fc.constantFrom("current", "stale", "another's"),
);
export const entitlements = fc.array(
  fc.constantFrom("f", "g", "h").map((id) => ({ billing_feature_id: id })),
  { maxLength: 2 },
);
export const name = fc.constantFrom("One", "Two", "Ünï 🦊", "", null);
export const email = fc.constantFrom("a@x.example", "b@x.example", null);
export const status = fc.constantFrom("active", "disabled", null);

/** The row that is meant, if there is one. */
export function chosen(model: Model, of: Kind, who: number, { whose, pick: index }: Choice): { readonly id: string; readonly row?: Row } {
  const rows =
    whose === "own"
      ? model.rowsOf(of, who)
      : whose === "foreign"
        ? [1, 2].flatMap((step) => model.rowsOf(of, (who + step) % PARTNERS))
        : [];
  const row = rows[index % (rows.length || 1)];
  if (row !== undefined) return { id: row.id, row };
  const erased = whose === "erased" ? model.erased.filter((gone) => gone.kind === of) : [];
  const gone = erased[index % (erased.length || 1)];
  return { id: gone?.id ?? `00000000-0000-4000-8000-${String(index).padStart(12, "0")}` };
}

export function keyOf(model: Model, of: Kind, who: number, { choice: which, by }: ChosenKey): Key {
  const { id, row } = chosen(model, of, who, which);
  if (by === "id") return { id };
  const external = row?.entity[of.externalId];
  return { externalId: typeof external === "string" ? external : (TEXTS[which.pick % TEXTS.length] ?? "") };
}

export function externalIdOf(model: Model, of: Kind, who: number, external: ExternalId): string | undefined {
  if (external === undefined) return undefined;
  return "text" in external ? external.text : chosen(model, of, who, external.idOf).id;
}

export function queryOf(of: Kind, by: Key): string {
  return "id" in by ? `${of.path}?${of.id}=${by.id}` : `${of.path}?${of.externalId}=${encodeURIComponent(by.externalId)}`;
}

export function conditionOf(model: Model, of: Kind, who: number, { by, condition }: { by: Key; condition: IfMatch }): string | undefined {
  if (condition === "none") return undefined;
  if (condition === "stale") return model.find(of, who, by)?.etagBefore ?? '"0123456789abcdef"';
  const row =
    condition === "current" ? model.find(of, who, by) : [...model.rows.values()].find((other) => other !== model.find(of, who, by));
  return row?.etag ?? '"fedcba9876543210"';
}

/** In what sense an id names something for the one who asks: the outcomes that a run must have met are told apart by it. */
export function nameOf(model: Model, of: Kind, who: number, by: Key): "own" | "foreign" | "shared" | "nobody's" {
  const owners = [0, 1, 2].filter((owner) => model.find(of, owner, by) !== undefined);
  if (owners.length === 0) return "nobody's";
  if (!owners.includes(who)) return "foreign";
  return owners.length === 1 ? "own" : "shared";
}
