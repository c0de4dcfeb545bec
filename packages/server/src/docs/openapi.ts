import { z } from "zod";
import { type OpenApiDocument, openApiDocument } from "../http/openapi.ts";
import { defineRoute, type Route } from "../http/route.ts";

/** The routes, and behind them the one that describes them all, itself too; made when somebody asks, for it would be a part of every start. */
export function withApiDescription(routes: readonly Route[], publicUrl: string): Route[] {
  let document: OpenApiDocument | undefined;
  const all: Route[] = [...routes, descriptionRoute(() => (document ??= openApiDocument(all, { publicUrl })))];
  return all;
}

function descriptionRoute(document: () => OpenApiDocument): Route {
  return defineRoute({
    operationId: "getApiDescription",
    method: "GET",
    path: "/openapi.json",
    auth: { kind: "public" },
    docs: {
      summary: "Get API Description",
      description: "This document.",
      tag: "documentation",
      answers: { 200: { description: "OpenAPI 3.1.", body: z.looseObject({ openapi: z.literal("3.1.0") }) } },
    },
    handle: () => ({ status: 200, headers: { "cache-control": "public, max-age=300" }, body: document() }),
  });
}
