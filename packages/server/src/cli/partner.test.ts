import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test, vi } from "vitest";
import { commands } from "./commands.ts";

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

test("partner list follows the cursor to the end, and names of others' making cannot steer the terminal", async () => {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    seen.push(request.url ?? "");
    const partner = { client_id: `prt_${seen.length}`, name: "\u001b[31m\u202ered", status: "active", issuer: null };
    response.end(JSON.stringify({ partners: [partner], next_cursor: seen.length === 1 ? "p&1" : null }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  vi.stubEnv("CAMBIST_OPERATOR_TOKEN", "operator-token-of-the-tests-0123456789abcdef");
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await commands().parseAsync(["partner", "list", "--url", url], { from: "user" });
  expect(write.mock.calls.map(([text]) => String(text)).join("")).toBe(
    [
      "CLIENT_ID  STATUS  NAME       ISSUER",
      "prt_1      active  \uFFFD[31m\uFFFDred  -",
      "prt_2      active  \uFFFD[31m\uFFFDred  -",
      "",
    ].join("\n"),
  );
  expect(seen).toEqual(["/admin/v1/partners?limit=200", "/admin/v1/partners?limit=200&cursor=p%261"]);
  server.closeAllConnections();
  server.close();
});
