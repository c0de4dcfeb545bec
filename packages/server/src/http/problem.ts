import { STATUS_CODES } from "node:http";
import type { Answer } from "./route.ts";

export interface FieldError {
  /** Dotted path; empty for the body as a whole. */
  readonly field: string;
  readonly message: string;
}

/** An error answer of the APIs (RFC 9457). The detail says what to do; it holds no secret, SQL, path or stack. */
export class Problem extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly fields: readonly FieldError[];

  constructor(status: number, detail: string, more: { headers?: Readonly<Record<string, string>>; fields?: readonly FieldError[] } = {}) {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0; // it is an answer, and no fault to be looked for: the stack would be most of what a 404 costs
    super(detail);
    Error.stackTraceLimit = stackTraceLimit;
    this.name = "Problem";
    this.status = status;
    this.headers = more.headers ?? {};
    this.fields = more.fields ?? [];
  }
}

/** Also carries `message` and `success: false`, so that a client of the published envelope reads it too. */
export function problemAnswer(problem: Problem, traceId: string): Answer {
  return {
    status: problem.status,
    headers: { ...problem.headers, "content-type": "application/problem+json" },
    body: {
      type: "about:blank",
      title: STATUS_CODES[problem.status] ?? "Error",
      status: problem.status,
      detail: problem.message,
      ...(problem.fields.length > 0 ? { errors: problem.fields } : {}),
      message: problem.message,
      success: false,
      trace_id: traceId,
    },
  };
}
