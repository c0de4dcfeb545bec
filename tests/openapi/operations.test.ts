import { afterAll, describe, expect, test } from "vitest";
import type { OpenApiDocument } from "../../packages/server/src/http/openapi.ts";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { type Reply, send } from "../../packages/server/src/testing/server.ts";
import { type Call, sendCall } from "./call.ts";
import { ApiDescription, type DescribedOperation } from "./description.ts";
import { coverageFaults, scenarioFor } from "./scenarios.ts";
import { openCutStage, openStage } from "./stage.ts";

/** Every operation and every status that the description declares, provoked on the running server. */

const stages = { sqlite: await openStage("sqlite"), postgres: await openStage("postgres") };
const cut = await openCutStage();
const description = new ApiDescription((await send(stages.sqlite.server, "GET", "/openapi.json")).json as unknown as OpenApiDocument);

afterAll(() => Promise.all([stages.sqlite, stages.postgres, cut].map((stage) => stage.stop())));

/** Where the request itself is at fault. */
const MALFORMED = new Set([400, 413, 415, 422]);

/** What partners and users keep in the store on both; the store goes away where it can, which is PostgreSQL. */
function runsOn(dialect: string, { tag }: DescribedOperation, status: number): boolean {
  return dialect === "postgres" ? tag === "accounts" || tag === "threads" || status === 503 : status !== 503;
}

describe("the API description", () => {
  test("declares no operation or status without a scenario, and no scenario is of one that it does not declare", () => {
    expect(coverageFaults(description)).toEqual([]);
    expect(description.operations.length).toBeGreaterThanOrEqual(32);
  });
});

describe.each(DIALECTS)("on %s", (dialect) => {
  for (const operation of description.operations) {
    const { operationId } = operation;
    const statuses = operation.statuses.filter((status) => runsOn(dialect, operation, status));
    if (statuses.length === 0) continue;
    describe(`${operation.method} ${operation.path}`, () => {
      test.each(statuses)(`${operationId} %i`, async (status) => {
        const stage = status === 503 ? cut : stages[dialect];
        const scenario = scenarioFor(operation, status);
        if (scenario === undefined) throw new Error("it has no scenario");
        const calls = [await scenario(stage)].flat().map((call) => withToken(operation, call, stage.tokens));
        const replies: Reply[] = [];
        for (const call of calls) {
          if (!MALFORMED.has(status)) expect(description.requestFaults(operation, call), "what was sent").toEqual([]);
          const reply = await sendCall(call.server ?? stage.server, operation, call);
          expect(description.answerFaults(operation, status, reply), "what came back").toEqual([]);
          replies.push(reply);
        }
        expect(description.unseenMediaTypes(operation, status, replies), "what never came back").toEqual([]);
      });
    });
  }
});

function withToken({ security }: DescribedOperation, call: Call, tokens: Readonly<Record<string, string>>): Call {
  const token = tokens[security ?? ""];
  return token === undefined ? call : { authorization: [`Bearer ${token}`], ...call };
}
