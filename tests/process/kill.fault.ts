import { describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { killAndReplay } from "./kill.ts";

const ROUNDS = 40;

describe.each(DIALECTS)(`kill -9, ${ROUNDS} times in a row, on %s`, (dialect) => {
  test("no spent jti is accepted again, and every granted exchange is on record", async () => {
    const report = await killAndReplay(dialect, ROUNDS);
    console.log(
      `kill -9 on ${dialect}: ${ROUNDS} kills, ${report.granted} granted, ${report.acceptedAgain} accepted again, ${report.unrecorded} unrecorded`,
    );
    expect(report).toMatchObject({ acceptedAgain: 0, unrecorded: 0 });
    expect(report.granted).toBeGreaterThan(ROUNDS * 10);
  });
});
