import { describe, expect, test } from "vitest";
import { DIALECTS } from "../../packages/server/src/testing/database.ts";
import { killAmidAnswers, type ThreadsKillReport } from "./threads-kill.ts";

const KILLS = 20;

function print(where: string, { kills, threads, shownBefore, reconnects, outcomes, unbegun, settledMs, faults }: ThreadsKillReport): void {
  const ends = Object.entries(outcomes).map(([outcome, count]) => `${count} ${outcome}`);
  console.log(
    `kill -9 amid answers on ${where}: ${kills} kills, ${threads} threads, ${shownBefore} chunks shown before them, ${reconnects} reconnects, tasks ${ends.join(", ")} ` +
      `(killed before the first chunk: ${unbegun.join(", ")}), all idle ${settledMs} ms after the last kill, ${faults.length} faults`,
  );
}

describe(`kill -9 amid answers, ${KILLS} times in a row`, () => {
  test.each(DIALECTS)("nothing that was shown is lost, nothing comes twice, every thread gets idle and goes on, on %s", async (dialect) => {
    const report = await killAmidAnswers(dialect, { kills: KILLS });
    print(dialect, report);
    expect(report.faults).toEqual([]);
    expect(report.shownBefore).toBeGreaterThan(KILLS / 2);
  });

  test("two nodes on one PostgreSQL, killed in turn: the other one takes over", async () => {
    const report = await killAmidAnswers("postgres", { kills: KILLS, nodeCount: 2 });
    print("two nodes", report);
    expect(report.faults).toEqual([]);
    expect(report.shownBefore).toBeGreaterThan(KILLS / 2);
  });
});
