import { describe, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { killAmidAnswers } from "./threads-kill.ts";

describe.concurrent("kill -9 amid answers", () => {
  test.for(DIALECTS)(
    "nothing that was shown is lost, nothing comes twice, every thread gets idle and goes on, on %s",
    { timeout: 120_000 },
    async (dialect, { expect }) => {
      const report = await killAmidAnswers(dialect, { kills: 2 });
      expect(report.faults).toEqual([]);
      expect(report.shownBefore, "the kills came amid answers").toBeGreaterThanOrEqual(2);
      expect(report.unbegun.at(-1), "what nobody had seen was begun again").toBe("answered");
      expect(report.settledMs, "a lease of 10 s, and the answers after it").toBeLessThan(25_000);
    },
  );
});
