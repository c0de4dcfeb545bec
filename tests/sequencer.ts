import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * Small files that take long. Where the runner has no times of an earlier run it begins with the largest files, and the whole run would wait for
 * these at its end.
 */
const FIRST = ["tests/process/threads-kill.test.ts", "tests/process/kill.test.ts", "tests/fuzz/short.test.ts"];
const isFirst = ({ moduleId }: TestSpecification) => FIRST.some((name) => moduleId.endsWith(name));

export class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    // oxlint-disable-next-line unicorn/no-array-sort -- no method of an array
    const sorted = await super.sort(files);
    return [...sorted.filter(isFirst), ...sorted.filter((file) => !isFirst(file))];
  }
}
