import { redact } from "@cambist/protocol";
import { ConfigError } from "../config.ts";

/** The command was not given as it wants to be: exit code 2, as for an unknown option. */
export class UsageError extends Error {}

const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** What is said of a failure. A stack helps nobody who has to correct a setting; a fault of ours needs it, at CAMBIST_LOG_LEVEL=debug. */
export function describeFailure(thrown: unknown, isDebugging: boolean): { readonly text: string; readonly exitCode: number } {
  const exitCode = thrown instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
  if (!(thrown instanceof Error)) return { text: redact(String(thrown)), exitCode };
  const isExpected = thrown instanceof ConfigError || thrown instanceof UsageError || !isDebugging;
  return { text: redact(isExpected ? withCause(thrown) : (thrown.stack ?? thrown.message)), exitCode };
}

/** The database's own word on why it does not answer; other causes only say the same again. */
function withCause(error: Error): string {
  const { cause, message } = error;
  if (error.name !== "StoreUnavailable" || !(cause instanceof Error)) return message;
  return `${message} (${cause.message || ("code" in cause ? String(cause.code) : cause.name)})`;
}
