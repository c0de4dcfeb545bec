import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";
import { afterAll, describe, expect, test } from "vitest";
import { openApiDocument } from "../../packages/server/src/http/openapi.ts";
import { ISSUER, OPERATOR_TOKEN, send, startTestServer } from "../../packages/server/src/testing/server.ts";
import { ApiDescription } from "./description.ts";

describe("the served description", async () => {
  const server = await startTestServer("sqlite");
  afterAll(() => server.stop());
  const reply = await send(server, "GET", "/openapi.json");
  const { routes } = server.app;

  test("is made from the routes, all of them, its own too, and the same each time", () => {
    expect(reply.status).toBe(200);
    expect(reply.headers.get("content-type")).toBe("application/json");
    expect(reply.headers.get("cache-control")).toBe("public, max-age=300");
    expect(reply.text).toBe(JSON.stringify(openApiDocument(routes, { publicUrl: ISSUER })));
    const described = new ApiDescription(openApiDocument(routes, { publicUrl: ISSUER })).operations.map(({ operationId }) => operationId);
    expect(described.toSorted()).toEqual(routes.map(({ operationId }) => operationId).toSorted());
    expect(described).toContain("getApiDescription");
  });

  test("is valid OpenAPI 3.1, and every reference in it leads somewhere", async () => {
    const validator = new Validator();
    expect(await validator.validate(reply.json)).toEqual({ valid: true });
    expect(validator.version).toBe("3.1");
    const references = [...reply.text.matchAll(/"\$ref":"#\/([^"]+)"/g)].map(([, pointer = ""]) => pointer);
    expect(references.length).toBeGreaterThan(100);
    for (const pointer of references) expect(pointer.split("/").reduce(member, reply.json), pointer).toBeDefined();
    expect(await new Validator().validate({ ...reply.json, paths: { "no-slash": {} } })).toMatchObject({ valid: false });
  });

  test("has a parameter for each part of a path that is one", () => {
    for (const [path, operations] of Object.entries(openApiDocument(routes, { publicUrl: ISSUER }).paths)) {
      const parts = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
      for (const { operationId, parameters = [] } of Object.values(operations)) {
        const named = parameters.flatMap((parameter) => ("in" in parameter && parameter.in === "path" ? [parameter.name] : []));
        expect(named.toSorted(), operationId).toEqual(parts.toSorted());
      }
    }
  });

  test("has the version of the package", () => {
    const manifest = JSON.parse(readFileSync(new URL("../../packages/server/package.json", import.meta.url), "utf8")) as {
      version: string;
    };
    expect(reply.json["info"]).toMatchObject({ version: manifest.version });
  });

  test("holds nothing of this machine and nothing secret", () => {
    expect(reply.text).not.toContain(OPERATOR_TOKEN);
    expect(reply.text).not.toContain(server.deps.config.dataDir);
    expect(reply.text).not.toMatch(/127\.0\.0\.1|node_modules|packages\/|\.ts\b|file:|\/(?:home|root|tmp|work)\b|cambist_secret_/);
  });
});

function member(node: unknown, name: string): unknown {
  return (node as Record<string, unknown> | undefined)?.[name];
}
