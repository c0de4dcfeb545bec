import { describe, expect, test } from "vitest";
import { redact } from "./redact.ts";
import { leastCpuMs } from "./testing/least-cpu-ms.ts";

const TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

describe("what is logged, recorded or said", () => {
  test.each([
    ["a secret", "cambist_secret_9rrUTOksxI8ai5Ug4tsLKDeMfMfctknYL5_yXRp3EYk", "cambist_secret_(redacted)"],
    ["a secret within a text", "scope 'x cambist_secret_abc-_1' is", "scope 'x cambist_secret_(redacted)' is"],
    ["a token", TOKEN, "(token redacted)"],
    ["a token without its signature", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.", "(token redacted)"],
    ["an encrypted token", "eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn", "(token redacted)"],
    ["an opaque token", "scope 'sk-0123456789abcdef0123456789abcdef'", "scope '(token redacted)'"],
    [
      "two of each",
      `${TOKEN} cambist_secret_a ${TOKEN} cambist_secret_b`,
      "(token redacted) cambist_secret_(redacted) (token redacted) cambist_secret_(redacted)",
    ],
  ])("holds no longer %s", (_case, text, expected) => {
    expect(redact(text)).toBe(expected);
  });

  test("in a time that grows with the text and not with its square", () => {
    for (const unit of ["-ey", "ey.", "eyaaaaaaaa.", "eyaaaaaaaa..", "cambist_secret_", "sk-", "sk-0123456789abcdef"]) {
      const text = unit.repeat(1_000_000 / unit.length);
      expect(
        leastCpuMs(() => redact(text), 1_000),
        unit,
      ).toBeLessThan(1_000); // a square takes minutes
    }
  });

  test.each([
    "prt_45dac3a2e42f35f92b769b62fc6e78b3",
    "https://eye.keyring.example.com/x",
    "alg 'HS256' is not accepted",
    "019abc",
    "risk-0123456789abcdef0",
    "",
  ])("keeps %j", (text) => {
    expect(redact(text)).toBe(text);
  });
});
