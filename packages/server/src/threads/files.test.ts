import { describe, expect, test } from "vitest";
import { declaredType, shownName } from "./files.ts";

describe("the name of a file", () => {
  test.each([
    ["report.pdf", "report.pdf"],
    ["Jahresbericht 2026 – naïve €.pdf", "Jahresbericht 2026 – naïve €.pdf"],
    ["🧵.txt", "🧵.txt"],
    [".env", ".env"],
    ["a..b", "a..b"],
  ])("is kept as it came: %j", (name, shown) => {
    expect(shownName(name)).toBe(shown);
  });

  test.each([
    ["../../x", "x"],
    ["..\\..\\x", "x"],
    ["C:\\dir\\x", "x"],
    ["\\\\host\\share\\x", "x"],
    ["/etc/passwd", "passwd"],
    ["a/b\\c", "c"],
    ["a\n/b", "b"],
    ["..\0/x", "x"],
  ])("has no path, of whatever system: %j", (name, shown) => {
    expect(shownName(name)).toBe(shown);
  });

  test.each([
    ["a\0b", "ab"],
    ['a"\r\nContent-Type: x', 'a"Content-Type: x'],
    ["a\u001b[31mb\u009b\u007f", "a[31mb"],
    ["report\u202Efdp.exe", "reportfdp.exe"],
    ["a\u2028b\u2029\u2066c\u200f\u061c", "abc"],
  ])("has nothing that is not to be seen: %j", (name, shown) => {
    expect(shownName(name)).toBe(shown);
  });

  test.each(["", ".", "..", "...", "a/", "C:\\", "\0\r\n", "  ", "\u202e"])("is a word of ours where nothing is left: %j", (name) => {
    expect(shownName(name)).toBe("file");
  });

  test("has 255 characters at most, and no half of one", () => {
    expect(shownName("x".repeat(300))).toBe("x".repeat(255));
    for (const lead of ["", "x"]) {
      const shown = shownName(lead + "😀".repeat(200));
      expect([shown.isWellFormed(), shown.length <= 255]).toEqual([true, true]);
    }
  });
});

describe("the media type of a file", () => {
  test.each(["text/plain", "text/html; charset=utf-8", "application/vnd.ms-excel", "image/svg+xml", "X/y"])(
    "is kept as it is sent: %j",
    (type) => {
      expect(declaredType(type)).toBe(type);
    },
  );

  test.each([
    undefined,
    "",
    "text",
    "text/",
    "/plain",
    "text/plain\0",
    "text/plain, text/html",
    "text/é",
    "a b/c",
    `text/${"x".repeat(255)}`,
  ])("is that of bytes where it looks like none: %j", (type) => {
    expect(declaredType(type)).toBe("application/octet-stream");
  });
});
