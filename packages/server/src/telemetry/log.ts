import pino from "pino";

export type LogFields = Readonly<Record<string, unknown>>;

/** JSON lines on standard output. Nothing that is logged holds a secret or a whole token: callers name the fields they mean. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const VALUE_CHARACTERS_MAX = 300;

export function openLog(level: string, destination?: { write(line: string): void }): Log {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const logger = destination === undefined ? pino(options) : pino(options, destination);
  const at = (name: "debug" | "info" | "warn" | "error") => (message: string, fields?: LogFields) => {
    if (logger.isLevelEnabled(name)) logger[name](fields === undefined ? {} : loggable(fields), message);
  };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** Values from outside are cut: a line stays a line that a log system takes (ASVS 16.4.1). Pino escapes control characters. */
function loggable(fields: LogFields): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Error) out[name] = errorFields(value);
    else out[name] = typeof value === "string" && value.length > VALUE_CHARACTERS_MAX ? `${value.slice(0, VALUE_CHARACTERS_MAX)}…` : value;
  }
  return out;
}

function errorFields(error: Error): Record<string, unknown> {
  const cause = error.cause instanceof Error ? { cause: errorFields(error.cause) } : {};
  return { name: error.name, message: error.message.slice(0, VALUE_CHARACTERS_MAX), stack: framesOf(error), ...cause };
}

/** A stack begins with the whole message, which is cut above. */
function framesOf({ stack = "", message }: Error): string {
  const at = stack.indexOf(message);
  return (at < 0 ? stack : stack.slice(at + message.length)).trim();
}
