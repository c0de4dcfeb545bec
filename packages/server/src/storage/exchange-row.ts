import { type ExchangeFacts, redact, type Refusal } from "@cambist/protocol";
import type { ExchangesTable } from "./schema.ts";

/** In the order of {@link exchangeRow}'s values, so that both dialects bind them by position. */
export const EXCHANGE_COLUMNS = [
  "trace_id",
  "at",
  "outcome",
  "refusal",
  "refusal_detail",
  "client_id",
  "partner_id",
  "grant_name",
  "kid",
  "subject",
  "jti",
  "scope",
  "token_id",
  "address",
] as const satisfies readonly (keyof ExchangesTable)[];

export type ExchangeRow = (string | number | null)[];

/** What is recorded of an exchange. `facts` holds neither secret nor whole token, and so neither does the row. */
export function exchangeRow(facts: Readonly<ExchangeFacts>, refusal: Refusal | undefined): ExchangeRow {
  return [
    facts.traceId,
    facts.atMs,
    refusal === undefined ? "granted" : "refused",
    refusal?.code ?? null,
    refusal === undefined ? null : storable(JSON.stringify(refusal, detailText)),
    storable(facts.clientId),
    facts.partnerId ?? null,
    facts.grant ?? null,
    storable(facts.kid),
    storable(facts.subject),
    storable(facts.jti),
    facts.scope ?? null,
    refusal === undefined ? (facts.tokenId ?? null) : null,
    facts.address,
  ];
}

const DETAIL_CHARACTERS_MAX = 200;

/** A secret or a token in the wrong parameter is taken out; cutting each text, and not the whole, leaves the JSON readable. */
function detailText(_name: string, value: unknown): unknown {
  return typeof value === "string" ? redact(value).slice(0, DETAIL_CHARACTERS_MAX) : value;
}

const TEXT_CHARACTERS_MAX = 1000;
/** Ids and jtis mostly are, and need no second look: the shortest secret is an opaque token. */
const SHORTER_THAN_A_SECRET = 34;

/** PostgreSQL has no NUL in text, and a value from outside is as long as its sender likes. */
function storable(text: string | undefined): string | null {
  if (text === undefined) return null;
  const safe = text.length > SHORTER_THAN_A_SECRET ? redact(text) : text;
  return safe.slice(0, TEXT_CHARACTERS_MAX).replaceAll("\0", "\uFFFD").toWellFormed();
}
