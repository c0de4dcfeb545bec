/** Exactly one document on standard output, in one line. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

export function printLines(...lines: readonly string[]): void {
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** `columns`: the members to show, in order; they head the table. */
export function printTable(columns: readonly string[], rows: readonly Readonly<Record<string, unknown>>[]): void {
  const cells = [columns.map((name) => name.toUpperCase()), ...rows.map((row) => columns.map((name) => cell(row[name])))];
  const widths = columns.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  printLines(
    ...cells.map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    ),
  );
}

export function printFields(fields: Readonly<Record<string, unknown>>): void {
  const width = Math.max(...Object.keys(fields).map((name) => name.length));
  printLines(...Object.entries(fields).map(([name, value]) => `${name.padEnd(width)}  ${cell(value)}`));
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length === 0 ? "-" : value.map(cell).join(", ");
  return printable(typeof value === "string" ? value : JSON.stringify(value));
}

/** Text of another's making cannot move the cursor, colour the screen or turn the reading direction. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "\uFFFD");
}
