/** The trace table of README.md is whole: every row has a test, every test a row, no cell is empty. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

interface Row {
  readonly heading: string;
  readonly cells: readonly string[];
}

/** Every row of every table, without the heads. */
function rowsOf(markdown: string): Row[] {
  const found: Row[] = [];
  let heading = "";
  let inTable = false;
  for (const line of markdown.split("\n")) {
    if (line.startsWith("## ")) heading = line.slice(3);
    if (!line.startsWith("|")) inTable = false;
    else if (/^\|[-|]+\|$/.test(line)) inTable = true;
    else if (inTable)
      found.push({
        heading,
        cells: line
          .slice(1, line.lastIndexOf("|"))
          .split("|")
          .map((cell) => cell.trim()),
      });
  }
  return found;
}

/** `file › name` of each test; whatever else begins one is an error, for it could not be traced. */
function testsOf(file: string, source: string): string[] {
  const named = [...source.matchAll(/^test\("((?:[^"\\]|\\.)*)", /gm)].map(([, name]) => `${file} › ${name}`);
  const begun = [...source.matchAll(/(?<![.\w])(?:test|it|describe)(?:\.\w+)*\(/g)].length;
  if (begun !== named.length) throw new Error(`${file}: ${begun} tests, ${named.length} of them with a plain name`);
  return named;
}

/** What is wrong with a table, in words; nothing where it is whole. */
function faultsOf(table: readonly Row[], names: readonly string[]): string[] {
  const faults: string[] = [];
  const traced = new Set<string>();
  for (const { heading, cells } of table) {
    if (cells.length !== (heading === "The table" ? 4 : heading === "What was read" ? 2 : 3)) faults.push(`cells: ${cells.join(" | ")}`);
    if (cells.some((cell) => !/\w/.test(cell))) faults.push(`an empty cell: ${cells.join(" | ")}`);
    if (heading !== "The table") continue;
    const [section = "", , file = "", name = ""] = cells;
    const traces = `${file.replaceAll("`", "")} › ${name}`;
    if (!names.includes(traces)) faults.push(`no such test: ${traces}`);
    if (!name.startsWith(section) || !section.includes("§")) faults.push(`${section} is not what the test is named by: ${name}`);
    if (traced.has(traces)) faults.push(`twice: ${traces}`);
    traced.add(traces);
  }
  return [...faults, ...names.filter((each) => !traced.has(each)).map((each) => `in no row: ${each}`)];
}

const folder = new URL(".", import.meta.url);
const rows = rowsOf(readFileSync(new URL("README.md", folder), "utf8"));
const files = readdirSync(folder).filter((name) => /^rfc.*\.test\.ts$/.test(name));
const tests = files.flatMap((file) => testsOf(file, readFileSync(new URL(file, folder), "utf8")));
const under = (heading: string) => rows.filter((row) => row.heading === heading).length;

test("every row names a test that exists, every test stands in a row, and no row is empty", () => {
  expect(faultsOf(rows, tests)).toEqual([]);
});

test("the whole table was read, and every file of tests", () => {
  expect(under("The table")).toBeGreaterThanOrEqual(345);
  expect(under("The table")).toBe(tests.length);
  expect(under("Deviations")).toBeGreaterThanOrEqual(1);
  expect(under("Not ours")).toBeGreaterThanOrEqual(55);
  const others = readdirSync(folder).filter((name) => name.endsWith(".test.ts") && !files.includes(name));
  expect(others).toEqual(["trace.test.ts"]);
});

test("no two tests of a file have one name", () => {
  expect(tests.filter((name, index) => tests.indexOf(name) !== index)).toEqual([]);
});

test("the check sees what it is there for", () => {
  const head = "## The table\n\n| § | requirement | file | test |\n|---|---|---|---|\n";
  const one = ["rfc1.test.ts › §1: it holds"];
  const row = "| §1 | it MUST hold | `rfc1.test.ts` | §1: it holds |\n";
  expect(faultsOf(rowsOf(head + row), one)).toEqual([]);
  const bad = {
    "no such test": row.replace("it holds", "it holds not"),
    "in no row": "",
    "an empty cell": row.replace("it MUST hold", " "),
    twice: row + row,
    "is not what the test is named by": row.replace("| §1 |", "| §2 |"),
    cells: row.replace("| it MUST hold ", ""),
  };
  for (const [fault, text] of Object.entries(bad)) expect(faultsOf(rowsOf(head + text), one).join("\n")).toContain(fault);
  expect(() => testsOf("rfc1.test.ts", 'test.skip("§1: it holds", () => {});')).toThrow("1 tests, 0 of them");
  expect(() => testsOf("rfc1.test.ts", "test(`§1`, () => {});")).toThrow("1 tests, 0 of them");
});
