import { STATUS_CODES } from "node:http";
import { ExpectedError } from "@cambist/protocol";
import type { Answer } from "./route.ts";

export interface FieldError {
  /** Dotted path; empty for the body as a whole. */
  readonly field: string;
  readonly message: string;
  /** Where the field is. */
  readonly place?: "body" | "query" | "path" | "header";
  /** A word for what is wrong with it. */
  readonly type?: string;
}

/** An error answer of the APIs (RFC 9457). The detail says what to do; it holds no secret, SQL, path or stack. */
export class Problem extends ExpectedError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly fields: readonly FieldError[];

  constructor(status: number, detail: string, more: { headers?: Readonly<Record<string, string>>; fields?: readonly FieldError[] } = {}) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.headers = more.headers ?? {};
    this.fields = more.fields ?? [];
  }
}

/** The threads API tells what is not valid as its reference does (contract §6): a list in the place of the sentence. */
export function listsFaults(url: string): boolean {
  return /^\/v2\/threads(?:[/?]|$)/.test(url);
}

/** Also carries `message` and `success: false`, so that a client of the published envelope reads it too. */
export function problemAnswer(problem: Problem, traceId: string, faults: "text" | "list" = "text"): Answer {
  const errors = problem.fields.map(({ field, message }) => ({ field, message }));
  return {
    status: problem.status,
    headers: { ...problem.headers, "content-type": "application/problem+json" },
    body: {
      type: "about:blank",
      title: STATUS_CODES[problem.status] ?? "Error",
      status: problem.status,
      detail: faults === "list" && problem.status === 422 ? faultList(problem) : problem.message,
      ...(errors.length > 0 ? { errors } : {}),
      message: problem.message,
      success: false,
      trace_id: traceId,
    },
  };
}

interface Fault {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}

function faultList({ fields, message: whole }: Problem): readonly Fault[] {
  if (fields.length === 0) return [{ loc: [], msg: whole, type: "value_error" }];
  return fields.map(({ field, message, place = "body", type = "value_error" }) => {
    const path = field === "" ? [] : field.split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : part));
    return { loc: [place, ...path], msg: message, type };
  });
}
