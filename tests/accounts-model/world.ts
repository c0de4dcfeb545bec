import { expect } from "vitest";
import type { Reply, TestServer } from "../../packages/server/src/testing/server.ts";
import { ask, type Asked, KINDS, openTenant, type Tenant } from "../attacks/a9-setting.ts";
import type { Tally } from "../fuzz/fuzz.ts";
import { type Model, PARTNERS } from "./model.ts";

/** Three partners of a running server that no other sequence touches. */
export class World {
  private readonly server: TestServer;
  private readonly tenants: readonly Tenant[];
  private readonly steps: Tally;

  private constructor(server: TestServer, tenants: readonly Tenant[], steps: Tally) {
    this.server = server;
    this.tenants = tenants;
    this.steps = steps;
  }

  static async open(server: TestServer, steps: Tally): Promise<World> {
    return new World(server, await Promise.all(Array.from({ length: PARTNERS }, () => openTenant(server))), steps);
  }

  /** One operation as the partner; further pages of a list are none of their own. */
  step(partner: number, operation: string, asked: Asked): Promise<Reply> {
    this.steps.count(operation);
    return this.ask(partner, asked);
  }

  async ask(partner: number, asked: Asked): Promise<Reply> {
    const tenant = this.tenants[partner];
    if (tenant === undefined) throw new Error(`there is no partner ${partner}`);
    return ask(this.server, tenant, asked);
  }

  /** Row for row, of all partners: nothing of the model is missing, and nothing else is there. */
  async expectRows(model: Model): Promise<void> {
    const partnerOf = new Map(this.tenants.map(({ partner }, index) => [partner.clientId, index]));
    const isOurs = `partner_id IN (${[...partnerOf.keys()].map((id) => `'${id}'`).join(", ")})`;
    for (const kind of KINDS) {
      const stored = await this.server.database.query(`SELECT * FROM ${kind.table} WHERE ${isOurs}`);
      const rows = stored.map((row) => ({
        partner: partnerOf.get(String(row["partner_id"])),
        etag: `"${String(row["revision"])}"`,
        entity: Object.fromEntries(
          ["org_id", "workspace_id", "user_id", ...kind.fields, "status", "entitlements"]
            .filter((name) => name in row)
            .map((name) => [name, name === "entitlements" ? (JSON.parse(String(row[name])) as unknown) : row[name]]),
        ),
      }));
      const expected = [...model.rows.values()]
        .filter((row) => row.kind === kind)
        .map(({ partner, etag, entity }) => ({ partner, etag, entity }));
      const inOrder = (list: readonly { entity: Record<string, unknown> }[]) =>
        list.toSorted((a, b) => (String(a.entity[kind.id]) < String(b.entity[kind.id]) ? -1 : 1));
      expect(inOrder(rows)).toEqual(inOrder(expected));
    }
  }
}
