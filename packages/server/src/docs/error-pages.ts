import { type RefusalCode, REFUSAL_CODES, refusalPage } from "@cambist/protocol";
import { z } from "zod";
import { Problem } from "../http/problem.ts";
import { type Answer, defineRoute, type Route } from "../http/route.ts";

const HEADERS = { "cache-control": "public, max-age=300", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'" };

/** What stands behind `error_uri`: a page for each refusal, and their list; each as HTML, and with .md as Markdown. */
export function errorPageRoutes(): Route[] {
  return [
    defineRoute({
      operationId: "listErrorPages",
      method: "GET",
      path: "/docs/errors",
      auth: { kind: "public" },
      docs: {
        summary: "List Error Pages",
        tag: "documentation",
        answers: { 200: { description: "The refusals of the token endpoint, each with its page.", mediaType: "text/html" } },
      },
      handle: () => html("Why the token endpoint refuses", `<ul>${REFUSAL_CODES.map(listItem).join("")}</ul>`),
    }),
    defineRoute({
      operationId: "getErrorPage",
      method: "GET",
      path: "/docs/errors/:page",
      auth: { kind: "public" },
      docs: {
        summary: "Get Error Page",
        description: "What a refusal means, and what to do. The page is a refusal's name, with `.md` behind it for Markdown.",
        tag: "documentation",
        answers: {
          200: { description: "The page.", mediaType: ["text/html", "text/markdown"] },
          404: { description: "There is no such page." },
        },
      },
      params: z.object({ page: z.string() }),
      handle: ({ params }) => errorPage(params.page),
    }),
  ];
}

function errorPage(page: string): Answer {
  const isMarkdown = page.endsWith(".md");
  const name = isMarkdown ? page.slice(0, -3) : page;
  const code = REFUSAL_CODES.find((candidate) => candidate === name);
  if (code === undefined) throw new Problem(404, "There is no such page; /docs/errors lists them.");
  const { title, meaning, remedy } = refusalPage(code);
  if (isMarkdown) {
    const body = `# ${title}\n\n\`${code}\`\n\n## What it means\n\n${meaning}\n\n## What to do\n\n${remedy}\n`;
    return { status: 200, headers: { ...HEADERS, "content-type": "text/markdown; charset=utf-8" }, body };
  }
  const parts = [`<p><code>${code}</code></p>`, `<h2>What it means</h2><p>${escapeHtml(meaning)}</p>`];
  parts.push(`<h2>What to do</h2><p>${escapeHtml(remedy)}</p>`, '<p><a href="/docs/errors">All refusals</a></p>');
  return html(title, parts.join("\n"));
}

function listItem(code: RefusalCode): string {
  return `<li><a href="/docs/errors/${code}"><code>${code}</code></a> ${escapeHtml(refusalPage(code).title)}</li>`;
}

const STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}";

function html(title: string, body: string): Answer {
  const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeHtml(title)} - Cambist</title>
<style>${STYLE}</style></head>
<body><h1>${escapeHtml(title)}</h1>
${body}
</body></html>
`;
  return { status: 200, headers: { ...HEADERS, "content-type": "text/html; charset=utf-8" }, body: page };
}

function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
