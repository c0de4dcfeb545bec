import type { Scope } from "@cambist/protocol";
import type { z } from "zod";

/** Who may call. There is no default: a route without it does not compile, so nothing is open by forgetting. */
export type RouteAuth =
  | { readonly kind: "public" }
  /** The handler authenticates the client itself, by what the form holds (RFC 6749 §2.3). */
  | { readonly kind: "oauth_client" }
  | { readonly kind: "operator" }
  | { readonly kind: "service_account"; readonly scope: Scope };

export interface Answer {
  readonly status: number;
  /** A string is sent as it is, anything else as JSON. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface RawRequest {
  readonly traceId: string;
  readonly address: string;
  /** Every Authorization header, in order: Node's own view keeps only the first. */
  readonly authorization: readonly string[];
  readonly mediaType: string | undefined;
  readonly hasQuery: boolean;
  readonly hasDpopProof: boolean;
  /** One character per byte (latin1). */
  readonly body: string;
}

export interface Call<B, Q, P> {
  readonly body: B;
  readonly query: Q;
  readonly params: P;
  /** The partner that authenticated; empty unless `auth` is `service_account`. */
  readonly partnerId: string;
  readonly raw: RawRequest;
}

export interface Route {
  /** The words that its test and its SDK method go by. */
  readonly operationId: string;
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly auth: RouteAuth;
  readonly bodyBytesMax: number;
  readonly schemas: RouteSchemas;
  handle(call: Call<unknown, unknown, unknown>): Promise<Answer> | Answer;
  /** Where errors have another shape than RFC 9457: the answer to a request that does not reach the handler. */
  refuseUnread?(raw: RawRequest, why: Unread): Promise<Answer>;
}

export type Unread = "body_too_large" | "media_type_unsupported" | "method_not_allowed";

export interface RouteSchemas {
  readonly body?: z.ZodType;
  readonly query?: z.ZodType;
  readonly params?: z.ZodType;
}

type Out<S> = S extends z.ZodType ? z.output<S> : undefined;

const BODY_BYTES_MAX = 1024 * 1024;

interface RouteDefinition<B, Q, P> extends Omit<Route, "schemas" | "handle" | "bodyBytesMax"> {
  readonly bodyBytesMax?: number;
  readonly body?: B;
  readonly query?: Q;
  readonly params?: P;
  handle(call: Call<Out<B>, Out<Q>, Out<P>>): Promise<Answer> | Answer;
}

/** A route as a value: the router, and every test that must see all routes, read the same list. */
export function defineRoute<B = undefined, Q = undefined, P = undefined>(definition: RouteDefinition<B, Q, P>): Route {
  const { body, query, params, ...rest } = definition;
  return {
    bodyBytesMax: BODY_BYTES_MAX,
    ...rest,
    schemas: { ...(body ? { body } : {}), ...(query ? { query } : {}), ...(params ? { params } : {}) } as unknown as RouteSchemas,
    handle: (call) => definition.handle(call as Call<Out<B>, Out<Q>, Out<P>>),
  };
}
