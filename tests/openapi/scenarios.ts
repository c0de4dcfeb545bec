import { basic } from "../../packages/server/src/testing/server.ts";
import { ACCOUNT_SCENARIOS } from "./account-scenarios.ts";
import { ADMIN_SCENARIOS } from "./admin-scenarios.ts";
import type { Call } from "./call.ts";
import type { ApiDescription, DescribedOperation } from "./description.ts";
import { usedUp } from "./limited.ts";
import { OPEN_SCENARIOS } from "./open-scenarios.ts";
import { RESOURCE_SERVER_SCENARIOS } from "./resource-server-scenarios.ts";
import type { Stage } from "./stage.ts";
import { THREAD_SCENARIOS } from "./thread-scenarios.ts";
import { TOKEN_SCENARIOS } from "./token-scenarios.ts";

/** Sets the stage, and gives the request that an operation answers with one status; several where its answers have several forms. */
export type Scenario = (stage: Stage) => Call | readonly Call[] | Promise<Call | readonly Call[]>;

type Sample = (stage: Stage) => Call | Promise<Call>;

/** Of one operation, by status; and a request as it is described, which names nothing that exists. */
export interface Scenarios {
  readonly sample?: Sample;
  readonly [status: number]: Scenario;
}

/** By operation id: what cannot be had from {@link sharedScenario}. */
export const SCENARIOS: Readonly<Record<string, Scenarios>> = {
  ...ACCOUNT_SCENARIOS,
  ...ADMIN_SCENARIOS,
  ...OPEN_SCENARIOS,
  ...RESOURCE_SERVER_SCENARIOS,
  ...THREAD_SCENARIOS,
  ...TOKEN_SCENARIOS,
};

export function scenarioFor(operation: DescribedOperation, status: number, all = SCENARIOS): Scenario | undefined {
  const own = all[operation.operationId];
  return own?.[status] ?? sharedScenario(operation, status, own?.sample ?? (() => ({})));
}

/** More than any operation takes. */
const BODY_BYTES = 1_100_000;

/** What is provoked in one way wherever it can happen, out of a request as it is described. */
function sharedScenario(operation: DescribedOperation, status: number, sample: Sample): Scenario | undefined {
  const changed = (change: (call: Call, stage: Stage) => Call): Scenario => {
    return async (stage) => {
      const call = await sample(stage);
      return { ...call, ...change(call, stage) };
    };
  };
  const token = (stage: Stage) => `Bearer ${stage.tokens[operation.security ?? ""] ?? ""}`;
  switch (status) {
    case 400:
      if (operation.takesJson) return changed(() => ({ raw: { mediaType: "application/json", body: '{"a":1,"a":2}' } }));
      return changed((_call, stage) => ({ authorization: [token(stage), token(stage)] }));
    case 401:
      return changed(() => ({ authorization: [] }));
    case 403:
      return changed((_call, { tokens }) => ({
        authorization: [`Bearer ${tokens[operation.security === "user" ? "serviceAccount" : "user"] ?? ""}`],
      }));
    case 413:
      return changed(() => ({ raw: { mediaType: "application/json", body: JSON.stringify("x".repeat(BODY_BYTES)) } }));
    case 415:
      return changed(({ json }) => ({ raw: { mediaType: "text/plain", body: JSON.stringify(json) } }));
    case 422:
      if (operation.takesJson) return changed(({ json }) => ({ json: { ...(json as object), not_a_field: 1 } }));
      return changed(({ query }) => ({ query: { ...query, not_a_parameter: "1" } }));
    case 429:
      return async (stage) => {
        const [sampled, { partner, tokens }] = [await sample(stage), await usedUp(stage)];
        if (sampled.form === undefined) {
          const own = tokens[operation.security ?? ""];
          return { ...sampled, authorization: [own === undefined ? basic(partner.clientId, partner.clientSecret) : `Bearer ${own}`] };
        }
        return { ...sampled, form: { ...sampled.form, client_id: partner.clientId, client_secret: partner.clientSecret } };
      };
    case 404:
    case 503:
      return sample;
    default:
      return undefined;
  }
}

/** What is described and has no scenario, and what has one and is not described: `operationId status`. */
export function coverageFaults({ operations }: ApiDescription, all = SCENARIOS): string[] {
  const described = new Map(operations.map((operation) => [operation.operationId, operation]));
  const untested = operations.flatMap((operation) =>
    operation.statuses
      .filter((status) => scenarioFor(operation, status, all) === undefined)
      .map((status) => `${operation.operationId} ${status} has no scenario`),
  );
  const undescribed = Object.entries(all).flatMap(([operationId, own]) =>
    Object.keys(own)
      .filter((status) => status !== "sample" && !described.get(operationId)?.statuses.includes(Number(status)))
      .map((status) => `${operationId} ${status} is not described`),
  );
  return [
    ...untested,
    ...undescribed,
    ...Object.keys(all)
      .filter((operationId) => !described.has(operationId))
      .map((operationId) => `${operationId} is not described`),
  ];
}
