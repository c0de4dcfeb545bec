import type { Scope } from "@cambist/protocol";
import type { z } from "zod";
import type { Partner } from "../storage/store.ts";
import type { Standing } from "./rate-limit.ts";

/** Who may call. There is no default: a route without it does not compile, so nothing is open by forgetting. */
export type RouteAuth =
  | { readonly kind: "public" }
  /** The handler authenticates the client itself, by what the form holds (RFC 6749 §2.3). */
  | { readonly kind: "oauth_client" }
  | { readonly kind: "operator" }
  | { readonly kind: "service_account"; readonly scope: Scope }
  | { readonly kind: "user"; readonly scope: Scope };

/** Who called, as the route's `auth` makes sure of. */
export type Principal =
  | { readonly kind: "public" | "oauth_client" | "operator" }
  | { readonly kind: "service_account"; readonly partner: Partner }
  | {
      readonly kind: "user";
      readonly partner: Partner;
      readonly userId: string;
      readonly workspaceId: string;
      readonly orgId: string;
      readonly token: { readonly tokenId: string; readonly expiresAtMs: number };
    };

export type PrincipalOf<A extends RouteAuth> = Extract<Principal, { readonly kind: A["kind"] }>;

export interface Answer {
  readonly status: number;
  /** A string is sent as it is, anything else as JSON. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** In place of the body, which stays open: called once the headers are out. Not for HEAD. */
  readonly stream?: (sink: EventSink) => void;
}

/** The way to a client that takes what it gets at its own pace. */
export interface EventSink {
  /** Of what was written, what the operating system has not taken yet: where that stays, the client takes nothing, or what is written waits behind another answer. */
  readonly pendingBytes: number;
  /** False: it is behind; what is written before `onDrain` is held in memory. */
  write(bytes: string | Uint8Array): boolean;
  end(last: string): void;
  /** Cuts the connection off. */
  destroy(): void;
  onDrain(listener: () => void): void;
  /** Once, however the connection ended; also where it is gone already. */
  onClose(listener: () => void): void;
}

export interface RawRequest {
  /** How the caller stands with its limit, once it is known who that is; told by headers of whatever the answer will be. */
  standing?: Standing;
  readonly traceId: string;
  readonly method: string;
  readonly address: string;
  /** Every Authorization header, in order: Node's own view keeps only the first. */
  readonly authorization: readonly string[];
  readonly mediaType: string | undefined;
  readonly hasQuery: boolean;
  readonly hasDpopProof: boolean;
  readonly ifMatch: string | undefined;
  readonly idempotencyKey: string | undefined;
  readonly lastEventId: string | undefined;
  /** Path and query, as they came. */
  readonly url: string;
  /** One character per byte (latin1). */
  readonly body: string;
}

export interface Call<B, Q, P, W extends Principal = Principal> {
  readonly body: B;
  readonly query: Q;
  readonly params: P;
  readonly principal: W;
  readonly raw: RawRequest;
}

/** What the API description says of a route beyond what its schemas and its `auth` say. */
export interface RouteDocs {
  /** A few words, as the contract names the operation. */
  readonly summary: string;
  readonly description?: string;
  readonly tag: "token" | "accounts" | "admin" | "discovery" | "operation" | "documentation" | "threads";
  /** Of a request, which the handler reads itself; none has to be there. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Of a body that is a form, which the handler reads itself. */
  readonly form?: z.ZodType;
  /**
   * The answers that the route's own handler gives, by status. What follows from `auth`, the schemas, the body and the store (400, 401, 403, 412, 413,
   * 415, 422, 429, 503) adds itself.
   */
  readonly answers: Readonly<Record<number, AnswerDocs>>;
}

export interface AnswerDocs {
  readonly description: string;
  /** Of a JSON body. For an error that is left out, it is the problem form (RFC 9457). */
  readonly body?: z.ZodType;
  /** Of a body that is not `application/json` or `application/problem+json`; several where the request chooses. */
  readonly mediaType?: string | readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Route {
  /** The words that its test and its SDK method go by. */
  readonly operationId: string;
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly auth: RouteAuth;
  readonly docs: RouteDocs;
  readonly bodyBytesMax: number;
  readonly schemas: RouteSchemas;
  /** Takes the headers by which a write is made once (Idempotency-Key) or only on what its sender has seen (If-Match). */
  readonly conditions: readonly ("idempotency_key" | "if_match")[];
  /** Its body may come as a form, too. */
  readonly takesForm?: true;
  /** Its body comes as a form of parts (multipart.ts) and nothing else, is large, and is read once its sender is known (uploads.ts). */
  readonly takesMultipart?: true;
  /** Pages of the origins that partners allow may call it (cors.ts). */
  readonly browser?: true;
  handle(call: Call<unknown, unknown, unknown>): Promise<Answer> | Answer;
  /** Where errors have another shape than RFC 9457: the answer to a request that does not reach the handler. */
  refuseUnread?(raw: RawRequest, why: Unread): Promise<Answer>;
}

export type Unread = "body_too_large" | "method_not_allowed";

export interface RouteSchemas {
  readonly body?: z.ZodType;
  readonly query?: z.ZodType;
  readonly params?: z.ZodType;
}

type Out<S> = S extends z.ZodType ? z.output<S> : undefined;

const BODY_BYTES_MAX = 1024 * 1024;

interface RouteDefinition<A extends RouteAuth, B, Q, P> extends Omit<Route, "auth" | "schemas" | "handle" | "bodyBytesMax" | "conditions"> {
  readonly auth: A;
  readonly bodyBytesMax?: number;
  readonly body?: B;
  readonly query?: Q;
  readonly params?: P;
  readonly conditions?: Route["conditions"];
  handle(call: Call<Out<B>, Out<Q>, Out<P>, PrincipalOf<A>>): Promise<Answer> | Answer;
}

/** A route as a value: the router, the API description and every test that must see all routes read the same list. */
export function defineRoute<const A extends RouteAuth, B = undefined, Q = undefined, P = undefined>(
  definition: RouteDefinition<A, B, Q, P>,
): Route {
  const { body, query, params, ...rest } = definition;
  return {
    bodyBytesMax: BODY_BYTES_MAX,
    conditions: [],
    ...rest,
    schemas: { ...(body ? { body } : {}), ...(query ? { query } : {}), ...(params ? { params } : {}) } as unknown as RouteSchemas,
    handle: (call) => definition.handle(call as Call<Out<B>, Out<Q>, Out<P>, PrincipalOf<A>>),
  };
}
