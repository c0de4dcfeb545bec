import type { Command } from "commander";
import type { RestoreOptions, StoreOptions } from "./store-actions.ts";

/** What is done to the store itself. The work is loaded when it is asked for: the database's libraries are most of a start. */
export function addStoreCommands(program: Command): void {
  program
    .command("migrate")
    .description("bring the schema of the configured store up to date; the server does so at its start, too")
    .option("--check", "change nothing; exit code 1 where migrations are pending")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  DATABASE_URL=postgres://cambist@db.example/cambist cambist migrate --check")
    .action(async (options: StoreOptions & { readonly check?: boolean }) => (await import("./store-actions.ts")).runMigrate(options));
  program
    .command("backup <file>")
    .description("copy the embedded store as of this moment into a new file; the server goes on meanwhile")
    .option("--json", "print one JSON document")
    .addHelpText("after", '\nExample:\n  cambist backup "/backups/cambist-$(date +%F).db"')
    .action(async (file: string, options: StoreOptions) => (await import("./store-actions.ts")).runBackup(file, options));
  program
    .command("restore [file]")
    .description("put a backup in the place of the embedded store, with the server stopped; the old one is kept beside it")
    .option("--ignore-replaced", "do not look into the store in place: what it had disabled or removed comes back")
    .option("--mark", "no file: mark a store that was put back by other means (pg_restore, a snapshot) as restored")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  cambist restore /backups/cambist-2026-11-22.db")
    .action(async (file: string | undefined, options: RestoreOptions) => (await import("./store-actions.ts")).runRestore(file, options));
}
