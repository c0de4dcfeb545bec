import { Command } from "commander";
import { expect, test, vi } from "vitest";
import { addPartnerOptions, partnerFields } from "./partner-fields.ts";

function fieldsOf(...args: string[]): Record<string, unknown> {
  const command = addPartnerOptions(new Command().exitOverride());
  return partnerFields(command.parse(args, { from: "user" }).opts());
}

test.each([
  ["6000", { requests_per_minute: 6_000 }],
  ["6000,1000", { requests_per_minute: 6_000, burst: 1_000 }],
  ["6000, 1000", { requests_per_minute: 6_000, burst: 1_000 }],
  ["6000,1000,500", { requests_per_minute: 6_000, burst: 1_000, streams: 500 }],
  ["default", null],
])("--rate-limits %s", (text, expected) => {
  expect(fieldsOf("--rate-limits", text)).toEqual({ rate_limits: expected });
});

test.each([
  ["https://a.example", ["https://a.example"]],
  ["https://a.example, http://localhost:3000", ["https://a.example", "http://localhost:3000"]],
  ["none", []],
])("--allowed-origins %s", (text, expected) => {
  expect(fieldsOf("--allowed-origins", text)).toEqual({ allowed_origins: expected });
});

test("--allowed-origins '' is refused before anything is sent", () => {
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  expect(() => fieldsOf("--allowed-origins", "")).toThrow(/allowed-origins/);
  write.mockRestore();
});

test.each(["", "6000,", "6000,1000,1,1", "many", "-1", "1.5", "none"])("--rate-limits '%s' is refused before anything is sent", (text) => {
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  expect(() => fieldsOf("--rate-limits", text)).toThrow(/rate-limits/);
  write.mockRestore();
});
