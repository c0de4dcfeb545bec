import { makeAuthority, makeSelfSigned, type TestCertificate } from "../../packages/server/src/testing/certificates.ts";
import { JWKS_FAULTS, type JwksHost, startJwksHost } from "../../packages/server/src/testing/jwks-host.ts";
import type { JwksPartner } from "./jwks-partner.ts";

/** A way in which a partner's host can fail. */
export interface HostFault {
  readonly name: string;
  /** Over https: the fault is one of its certificate. */
  readonly isTls: boolean;
  readonly inject: (host: JwksHost, partner: JwksPartner) => Promise<void> | void;
}

const HOST = "localhost";

/** Trusted by the server under test. */
export const AUTHORITY = makeAuthority();

const certificate = (name: string, make: () => TestCertificate): HostFault => ({
  name: `bad TLS: ${name}`,
  isTls: true,
  inject: (host) => host.useCertificate(make()),
});

/** The JWKS fault matrix. The 50 MB come with their length and without, and bad TLS is of three kinds. */
const HOST_FAULTS: readonly HostFault[] = [
  { name: "refuse", isTls: false, inject: (host) => host.refuse() },
  ...JWKS_FAULTS.map((name) => ({ name, isTls: false, inject: (_host: JwksHost, { set }: JwksPartner) => set.fail(name) })),
  certificate("expired", () => AUTHORITY.issue({ host: HOST, notAfter: new Date(Date.now() - 1_000) })),
  certificate("self-signed", () => makeSelfSigned({ host: HOST })),
  certificate("another name", () => AUTHORITY.issue({ host: "other.example" })),
];

/** A host for each fault, all well as yet. */
export function startFaultHosts(): Promise<FaultHost[]> {
  return Promise.all(
    HOST_FAULTS.map(async (fault) => ({ fault, host: await startJwksHost(fault.isTls ? AUTHORITY.issue({ host: HOST }) : undefined) })),
  );
}

export interface FaultHost {
  readonly fault: HostFault;
  readonly host: JwksHost;
}
