import { describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { killAndReplay } from "./kill.ts";

describe.each(DIALECTS)("kill -9 on %s", (dialect) => {
  test("no spent jti is accepted again, and every granted exchange is on record", { timeout: 60_000 }, async () => {
    const report = await killAndReplay(dialect, 3);
    expect(report).toMatchObject({ acceptedAgain: 0, unrecorded: 0 });
    expect(report.granted, "the kills came in the midst of exchanges").toBeGreaterThan(5); // few on a busy machine
  });
});
