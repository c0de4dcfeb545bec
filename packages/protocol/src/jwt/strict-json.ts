import { JSON_DEPTH_MAX } from "../constants.ts";
import { fail, ok, type Result } from "../result.ts";

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
/** Inherits nothing: a member named `__proto__` or `constructor` is a member like any other. */
export interface JsonObject {
  readonly [name: string]: JsonValue | undefined;
}

export type JsonFault =
  | { readonly code: "syntax"; readonly at: number }
  | { readonly code: "name_repeated"; readonly name: string }
  | { readonly code: "too_deep" }
  | { readonly code: "number_not_finite" }
  | { readonly code: "lone_surrogate" };

/**
 * JSON as RFC 8259 and I-JSON (RFC 7493 §2) have it: a name twice in one object, a number that is not finite, a lone surrogate and
 * nesting beyond `depthMax` are refused. JSON.parse takes the last of two equal names and reads 1e400 as Infinity, so a second
 * reader of the same token may see another `sub` or no expiry at all.
 * Does NOT keep the precision of integers beyond 2^53.
 */
export function parseStrictJson(text: string, depthMax: number = JSON_DEPTH_MAX): Result<JsonValue, JsonFault> {
  const parser = new Parser(text, depthMax);
  try {
    return ok(parser.document());
  } catch (thrown) {
    if (thrown instanceof JsonFaultSignal) return fail(thrown.fault);
    throw thrown;
  }
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Unwinds the recursion; never leaves this file. Not an Error: no stack is taken for bad input. */
class JsonFaultSignal {
  readonly fault: JsonFault;
  constructor(fault: JsonFault) {
    this.fault = fault;
  }
}

/** Objects of it have nothing but what the text names; `Object.create(null)` would give slow dictionaries. */
const Members = function Members() {} as unknown as new () => Record<string, JsonValue>;
Members.prototype = Object.freeze(Object.create(null)) as object;

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

class Parser {
  private readonly text: string;
  private readonly depthMax: number;
  private at = 0;

  constructor(text: string, depthMax: number) {
    this.text = text;
    this.depthMax = depthMax;
  }

  document(): JsonValue {
    const value = this.value(0);
    this.space();
    if (this.at !== this.text.length) this.refuseSyntax();
    return value;
  }

  private value(depth: number): JsonValue {
    this.space();
    switch (this.text.charCodeAt(this.at)) {
      case 0x7b:
        return this.object(depth);
      case 0x5b:
        return this.array(depth);
      case QUOTE:
        return this.string();
      case 0x74:
        return this.word("true", true);
      case 0x66:
        return this.word("false", false);
      case 0x6e:
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  private object(depth: number): JsonObject {
    const members = new Members();
    this.open(depth);
    if (this.endsWith(0x7d)) return members;
    for (;;) {
      this.space();
      if (this.text.charCodeAt(this.at) !== QUOTE) this.refuseSyntax();
      const name = this.string();
      if (name in members) throw new JsonFaultSignal({ code: "name_repeated", name });
      this.space();
      if (this.text.charCodeAt(this.at) !== 0x3a) this.refuseSyntax();
      this.at++;
      members[name] = this.value(depth + 1);
      if (this.endsWith(0x7d)) return members;
      this.comma();
    }
  }

  private array(depth: number): JsonValue[] {
    const items: JsonValue[] = [];
    this.open(depth);
    if (this.endsWith(0x5d)) return items;
    for (;;) {
      items.push(this.value(depth + 1));
      if (this.endsWith(0x5d)) return items;
      this.comma();
    }
  }

  private string(): string {
    const start = this.at;
    let plain = true;
    for (let i = start + 1; i < this.text.length; i++) {
      const unit = this.text.charCodeAt(i);
      if (unit === QUOTE) {
        this.at = i + 1;
        return plain ? this.text.slice(start + 1, i) : this.escaped(start, i + 1);
      }
      if (unit < 0x20) this.refuseSyntax();
      if (unit === BACKSLASH) {
        plain = false;
        i++;
      } else if (unit >= 0xd800 && unit <= 0xdfff) plain = false;
    }
    return this.refuseSyntax();
  }

  /** JSON.parse knows the escapes; one string literal holds no name that could repeat. */
  private escaped(start: number, end: number): string {
    let value: string;
    try {
      value = JSON.parse(this.text.slice(start, end)) as string;
    } catch {
      return this.refuseSyntax();
    }
    if (/\p{Surrogate}/u.test(value)) throw new JsonFaultSignal({ code: "lone_surrogate" });
    return value;
  }

  private number(): number {
    NUMBER.lastIndex = this.at;
    const match = NUMBER.exec(this.text);
    if (match === null) return this.refuseSyntax();
    const value = Number(match[0]);
    if (!Number.isFinite(value)) throw new JsonFaultSignal({ code: "number_not_finite" });
    this.at = NUMBER.lastIndex;
    return value;
  }

  private word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) this.refuseSyntax();
    this.at += word.length;
    return value;
  }

  private open(depth: number): void {
    if (depth >= this.depthMax) throw new JsonFaultSignal({ code: "too_deep" });
    this.at++;
  }

  private endsWith(closing: number): boolean {
    this.space();
    if (this.text.charCodeAt(this.at) !== closing) return false;
    this.at++;
    return true;
  }

  private comma(): void {
    if (this.text.charCodeAt(this.at) !== 0x2c) this.refuseSyntax();
    this.at++;
  }

  private space(): void {
    for (;;) {
      const unit = this.text.charCodeAt(this.at);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return;
      this.at++;
    }
  }

  private refuseSyntax(): never {
    throw new JsonFaultSignal({ code: "syntax", at: this.at });
  }
}
