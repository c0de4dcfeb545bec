import { randomBytes, randomUUID } from "node:crypto";
import { CLIENT_SECRET_PREFIX } from "@cambist/protocol";

/** Every id is made here. Prefixes tell kinds apart, so that no id of one kind can equal one of another. */

export function newClientId(): string {
  return `prt_${randomBytes(16).toString("hex")}`;
}

const CLIENT_ID = /^prt_[0-9a-f]{32}$/;

export function isClientId(text: string): boolean {
  return CLIENT_ID.test(text);
}

const FOREIGN_ID_CHARACTERS_MAX = 8;

/** To be kept or logged: what came as a client id and is none may be the secret, in the wrong field, and is cut to its beginning. */
export function shownClientId(text: string): string {
  return isClientId(text) ? text : text.slice(0, FOREIGN_ID_CHARACTERS_MAX);
}

/** 256 bits; the prefix lets a secret scanner find one that leaked. */
export function newClientSecret(): string {
  return `${CLIENT_SECRET_PREFIX}${randomBytes(32).toString("base64url")}`;
}

export function newSecretId(): string {
  return `sec_${randomBytes(8).toString("hex")}`;
}

export function isSecretId(text: string): boolean {
  return /^sec_[0-9a-f]{16}$/.test(text);
}

export function newEntityId(): string {
  return randomUUID();
}

const ENTITY_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function isEntityId(text: string): boolean {
  return ENTITY_ID.test(text);
}

export function newResourceServerId(): string {
  return `rs_${randomBytes(16).toString("hex")}`;
}

const RESOURCE_SERVER_ID = /^rs_[0-9a-f]{32}$/;

export function isResourceServerId(text: string): boolean {
  return RESOURCE_SERVER_ID.test(text);
}

const POOL_BYTES = 4096;
let pool = Buffer.alloc(0);

/** One call to the generator serves many ids. */
function randomFromPool(bytes: number): Buffer {
  if (pool.length < bytes) pool = randomBytes(POOL_BYTES);
  const taken = pool.subarray(0, bytes);
  pool = pool.subarray(bytes);
  return taken;
}

/** The `jti` of an access token: 128 random bits. */
export function newTokenId(): string {
  return randomFromPool(16).toString("base64url");
}

/** An opaque access token, 128 random bits (contract §3). */
export function newOpaqueToken(): string {
  return `sk-${randomFromPool(16).toString("hex")}`;
}

/** 32 hex digits as W3C Trace Context has them, the first 12 the time in milliseconds: recorded exchanges lie in the order of time. */
export function newTraceId(nowMs: number): string {
  return nowMs.toString(16).padStart(12, "0") + randomFromPool(10).toString("hex");
}
