import { expect, test } from "vitest";
import { ExpectedError } from "./expected-error.ts";

test("an expected error has its message and no stack, and leaves other errors theirs", () => {
  expect(new ExpectedError("no such user").stack).toBe("Error: no such user");
  expect(new Error("a fault").stack).toContain("expected-error.test.ts");
});
