import { z } from "zod";
import { defineRoute, type Route } from "../http/route.ts";
import { absent, AUTH, HOME, ownerOf, requireOwnId, type ThreadDeps, threadParams } from "./thread.ts";

/** What an agent has made beside its words, found under its own thread only (contract §6). */
export function artifactRoutes({ threads }: Pick<ThreadDeps, "threads">): Route[] {
  return [
    defineRoute({
      operationId: "getArtifact",
      method: "GET",
      path: `${HOME}/:thread_id/artifacts/:artifact_id`,
      auth: AUTH,
      browser: true,
      docs: {
        summary: "Get Artifact",
        description: "By the id that stands in a message, in a fenced block.",
        tag: "threads",
        answers: {
          200: {
            description: "As the agent made it.",
            body: z.strictObject({ artifact_id: z.uuid(), artifact: z.record(z.string(), z.unknown()) }),
          },
          404: { description: "There is no such thread, or no such artifact in it." },
        },
      },
      params: threadParams.extend({ artifact_id: threadParams.shape.thread_id }),
      async handle({ params, principal }) {
        const threadId = requireOwnId(params.thread_id, "artifact");
        const artifactId = requireOwnId(params.artifact_id, "artifact");
        const artifact = await threads.findArtifact(ownerOf(principal), threadId, artifactId);
        if (artifact === undefined) throw absent("artifact");
        return { status: 200, body: { artifact_id: artifactId, artifact } };
      },
    }),
  ];
}
