import type { Withdrawals } from "../storage/carry-over.ts";
import type { RestoreReport } from "../storage/restore.ts";

/** For programs. */
export function restoreAnswer(storePath: string, report: RestoreReport): Record<string, unknown> {
  const { withdrawals, replaced, migrated, restoredAtMs } = report;
  return {
    store: storePath,
    restored_at: new Date(restoredAtMs).toISOString(),
    replaced: replaced ?? null,
    migrations: migrated,
    carried_over:
      withdrawals === undefined
        ? null
        : {
            disabled: withdrawals.disabled,
            erased: withdrawals.erased,
            secrets_removed: withdrawals.secretsRemoved,
            partner_keys_removed: withdrawals.partnerKeysRemoved,
            partners_without_keys: withdrawals.partnersWithoutKeys,
            signing_keys_removed: withdrawals.signingKeysRemoved,
          },
    look_at: {
      settings_differ: withdrawals?.settingsDiffer ?? [],
      partners_missing: withdrawals?.partnersMissing ?? [],
    },
  };
}

/** For people: what is so now, and what they have to see to. */
export function restoreLines(storePath: string, report: RestoreReport): string[] {
  const { withdrawals, replaced, migrated } = report;
  const lines = [`${storePath} is restored. No token that was signed until ${new Date(report.restoredAtMs).toISOString()} is taken.`];
  if (migrated.length > 0) lines.push(`Its schema was brought up to date: ${migrated.join(", ")}.`);
  if (replaced !== undefined) lines.push(`The store that was there is kept: ${replaced}`);
  lines.push(...(withdrawals === undefined ? notCarriedOver(replaced) : carriedOver(withdrawals)));
  lines.push("Recorded exchanges, and accounts that were made since the backup, are not in it. Start the server when you are done.");
  return lines;
}

function notCarriedOver(replaced: string | undefined): string[] {
  const why = replaced === undefined ? "There was no store to compare it with" : "The store that was there was not looked at";
  return [
    `${why}: who is disabled, and which secrets and keys count, is as of the backup. Before partners come back, disable and remove again what was since.`,
  ];
}

function carriedOver({ disabled, erased, ...withdrawals }: Withdrawals): string[] {
  const { partners, organizations, workspaces, users } = disabled;
  const lines = [
    `Carried over from it: disabled ${partners} partners, ${organizations} organizations, ${workspaces} workspaces, ${users} users;` +
      ` removed ${withdrawals.secretsRemoved} secrets, ${withdrawals.partnerKeysRemoved} keys or key URLs of partners, ${withdrawals.signingKeysRemoved} signing keys.`,
  ];
  if (erased.organizations + erased.workspaces + erased.users > 0) {
    lines.push(
      `Erased since the backup, and again now: ${erased.organizations} organizations, ${erased.workspaces} workspaces, ${erased.users} users.`,
    );
  }
  const lists: readonly (readonly [string, readonly string[]])[] = [
    [
      "Their keys were replaced since the backup, and they have none now; give them with `cambist partner update`",
      withdrawals.partnersWithoutKeys,
    ],
    ["Their settings were changed since the backup, and are as they were in it; look at them", withdrawals.settingsDiffer],
    ["They were made since the backup, and are not in it", withdrawals.partnersMissing],
  ];
  for (const [sentence, ids] of lists) if (ids.length > 0) lines.push(`${sentence}: ${ids.join(" ")}`);
  return lines;
}
