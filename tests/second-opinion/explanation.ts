import type { JwtFault } from "../../packages/protocol/src/refusals.ts";
import type { LenientToken } from "./lenient.ts";
import { type JosesOpinion, type OurOpinion, type Question, STAGES } from "./opinions.ts";

export interface Asked {
  readonly question: Question;
  /** By the platform's own lenient decoders. */
  readonly token: LenientToken;
}

/** A question on which the two differ. */
export interface Difference extends Asked {
  readonly ours: OurOpinion;
  readonly joses: JosesOpinion;
}

/** Why a difference is none to worry about: what jose does, what we do, and where it is written. */
export interface Explanation {
  readonly name: string;
  readonly why: string;
  readonly stricter: "we" | "jose";
  /** True of the differences that the name describes, and of no other. */
  holds(difference: Difference): boolean;
  /** The question with nothing but the reason taken away. The two then agree, or differ for a reason that is explained in its turn. */
  repaired?(difference: Difference): Question;
  /** Can it be met on this platform at all? Absent: yes. */
  canBeMet?(): Promise<boolean>;
  /** What we say that we refuse, we may not accept: true of a question to which our answer may not be yes, whatever jose's is. */
  forbids?(asked: Asked): boolean;
}

type FaultOf<C extends JwtFault["code"]> = Extract<JwtFault, { readonly code: C }>;

/**
 * We stop a token earlier than jose. `isIn` looks for the reason in the token as a lenient reader has it and not as our parser does, where
 * our fault says it is, or anywhere.
 */
export function weRefuse<C extends JwtFault["code"]>(
  name: string,
  codes: readonly C[],
  isIn: (asked: Asked, fault?: FaultOf<C>) => boolean,
  why: string,
): Explanation {
  return {
    name,
    why,
    stricter: "we",
    holds: (difference) => {
      const { ours, joses } = difference;
      const { fault } = ours;
      if (fault === undefined || !(codes as readonly string[]).includes(fault.code)) return false;
      return STAGES.indexOf(ours.stage) < STAGES.indexOf(joses.stage) && isIn(difference, fault as FaultOf<C>);
    },
    forbids: (asked) => isIn(asked),
  };
}

/** We pass a token that jose stops, with one of these codes of its own: before it has formed an opinion on the rest, hence `repaired`. */
export function joseRefuses(
  name: string,
  codes: readonly string[],
  evidence: (difference: Difference) => boolean,
  repaired: (difference: Difference) => Question,
  why: string,
): Explanation {
  return {
    name,
    why,
    stricter: "jose",
    repaired,
    holds: (difference) => {
      const { ours, joses } = difference;
      const stricter = STAGES.indexOf(ours.stage) > STAGES.indexOf(joses.stage);
      return stricter && joses.code !== undefined && codes.includes(joses.code) && evidence(difference);
    },
  };
}
