import { randomBytes, sign } from "node:crypto";
import { newKeyPair } from "../keys/key-pair.ts";

/* X.509 certificates (RFC 5280) of a test's own, written out by hand: Node can read them, but not make them. */

/** Both PEM. */
export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface CertificateFields {
  /** The one name that it is for. */
  readonly host: string;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

export interface TestAuthority {
  /** To be trusted, PEM. */
  readonly cert: string;
  issue(fields: CertificateFields): TestCertificate;
}

const DAY_MS = 86_400_000;
const ECDSA_WITH_SHA256 = sequence(objectId("2a8648ce3d040302"));
const COMMON_NAME = objectId("550403");
const SUBJECT_ALT_NAME = objectId("551d11");
const BASIC_CONSTRAINTS = objectId("551d13");

export function makeAuthority(name = "Cambist test authority"): TestAuthority {
  const pair = newKeyPair("ES256");
  const basicConstraints = sequence(BASIC_CONSTRAINTS, der(0x01, Buffer.of(0xff)), der(0x04, sequence(der(0x01, Buffer.of(0xff)))));
  const validity = validityOf({ host: "" });
  const cert = certificate({ issuer: name, subject: name, validity, extension: basicConstraints, holder: pair, issuerKey: pair });
  return {
    cert,
    issue(fields) {
      const holder = newKeyPair("ES256");
      const parts = { issuer: name, subject: fields.host, validity: validityOf(fields), extension: altName(fields.host) };
      return { cert: certificate({ ...parts, holder, issuerKey: pair }), key: pem(holder) };
    },
  };
}

/** Signed by its own key, and by nobody else. */
export function makeSelfSigned(fields: CertificateFields): TestCertificate {
  const pair = newKeyPair("ES256");
  const parts = { issuer: fields.host, subject: fields.host, validity: validityOf(fields), extension: altName(fields.host) };
  return { cert: certificate({ ...parts, holder: pair, issuerKey: pair }), key: pem(pair) };
}

type Pair = ReturnType<typeof newKeyPair>;

interface Parts {
  readonly issuer: string;
  readonly subject: string;
  readonly validity: Buffer;
  readonly extension: Buffer;
  readonly holder: Pair;
  readonly issuerKey: Pair;
}

function certificate({ issuer, subject, validity, extension, holder, issuerKey }: Parts): string {
  const version3 = der(0xa0, der(0x02, Buffer.of(2)));
  const serial = der(0x02, Buffer.concat([Buffer.of(1), randomBytes(15)]));
  const publicKey = holder.publicKey.export({ format: "der", type: "spki" });
  const extensions = der(0xa3, sequence(extension));
  const signed = sequence(version3, serial, ECDSA_WITH_SHA256, nameOf(issuer), validity, nameOf(subject), publicKey, extensions);
  const signature = sign("sha256", signed, issuerKey.privateKey);
  const whole = sequence(signed, ECDSA_WITH_SHA256, der(0x03, Buffer.of(0), signature));
  const lines = whole.toString("base64").replaceAll(/.{64}(?=.)/g, "$&\n");
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

function validityOf({
  notBefore = new Date(Date.now() - DAY_MS),
  notAfter = new Date(Date.now() + 365 * DAY_MS),
}: CertificateFields): Buffer {
  const time = (date: Date) => der(0x17, Buffer.from(`${date.toISOString().slice(2, 19).replaceAll(/\D/g, "")}Z`)); // UTCTime, up to 2049
  return sequence(time(notBefore), time(notAfter));
}

function nameOf(commonName: string): Buffer {
  return sequence(der(0x31, sequence(COMMON_NAME, der(0x0c, Buffer.from(commonName)))));
}

function altName(host: string): Buffer {
  return sequence(SUBJECT_ALT_NAME, der(0x04, sequence(der(0x82, Buffer.from(host)))));
}

function objectId(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, "hex"));
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return der(0x30, ...parts);
}

/** Tag, length, value (X.690 §8.1). */
function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const length = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 255];
  return Buffer.concat([Buffer.of(tag, ...length), content]);
}

function pem({ privateKey }: Pair): string {
  return privateKey.export({ format: "pem", type: "pkcs8" }) as string;
}
