import { describe, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { killAndReplay } from "./kill.ts";

describe.concurrent("kill -9", () => {
  test.for(DIALECTS)("no spent jti is accepted again, and every granted exchange is on record, on %s", async (dialect, { expect }) => {
    const report = await killAndReplay(dialect, 2);
    expect(report).toMatchObject({ acceptedAgain: 0, unrecorded: 0 });
    expect(report.granted, "the kills came in the midst of exchanges").toBeGreaterThan(5); // few on a busy machine
  });
});
