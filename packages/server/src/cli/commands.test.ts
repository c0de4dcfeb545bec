import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { commands } from "./commands.ts";

/** Every command that does something, with its full name. One that has commands below it does where it takes options. */
function leaves(command: Command, path = "cambist"): { readonly name: string; readonly command: Command }[] {
  const own = command.commands.flatMap((child) => leaves(child, `${path} ${child.name()}`));
  return own.length > 0 && command.options.length === 0 ? own : [{ name: path, command }, ...own];
}

function helpOf(command: Command): string {
  let help = "";
  command.configureOutput({ writeOut: (text) => (help += text) });
  command.outputHelp();
  return help;
}

const all = leaves(commands());

describe("the command line", () => {
  test("has the commands of the contract", () => {
    expect(all.map(({ name }) => name.replace("cambist ", ""))).toEqual(
      expect.arrayContaining(
        ["sandbox", "serve", "sandbox-token", "chat", "keys", "keys rotate", "jwks from-pem", "migrate", "backup", "restore"].concat(
          ["create", "list", "show", "update", "disable", "keys", "secret add", "secret remove"].map((name) => `partner ${name}`),
        ),
      ),
    );
  });

  test.each(all)("$name: its help says what it does, and has an example of it", ({ name, command }) => {
    const help = helpOf(command);
    expect(command.description()).not.toBe("");
    expect(help).toMatch(/\nExample[^\n]*:\n {2}/);
    expect(help.split("\nExample")[1]).toContain(name);
    for (const option of command.options) expect(option.description, option.flags).not.toBe("");
  });

  test.each(all.filter(({ name }) => !/ (?:sandbox|serve|sandbox-token)$/.test(name)))("$name: has --json", ({ command }) => {
    expect(command.options.map((option) => option.long)).toContain("--json");
  });

  test("P11.11: no option takes a secret, a token, a password or a key as its value", () => {
    const taking = all.flatMap(({ command }) => command.options.filter((option) => !option.isBoolean()).map(({ flags }) => flags));
    const suspicious = new Set(taking.filter((flags) => /secret|token|password|key/i.test(flags)));
    expect([...suspicious].toSorted()).toEqual(["--access-token-lifetime-seconds <n>", "--secret-file <file>"]);
  });
});
