import { CLAIM_EXPLANATIONS } from "./explain-claims.ts";
import { KEY_EXPLANATIONS } from "./explain-keys.ts";
import { TEXT_EXPLANATIONS } from "./explain-text.ts";
import type { Difference, Explanation } from "./explanation.ts";
import { readLeniently } from "./lenient.ts";
import { isSame, josesOpinion, type OurOpinion, ourOpinion, type Question, type Stage } from "./opinions.ts";

/** The closed list: a difference that none of them explains fails. */
export const EXPLANATIONS: readonly Explanation[] = [...TEXT_EXPLANATIONS, ...KEY_EXPLANATIONS, ...CLAIM_EXPLANATIONS];

/** What came of a number of questions. */
export class Report {
  questions = 0;
  readonly agreed = new Map<Stage, number>();
  readonly explained = new Map<Explanation, number>(EXPLANATIONS.map((explanation) => [explanation, 0]));

  /**
   * @throws for a difference that is not explained, and for a token that we accept though an explanation says that we do not: else we
   * could become as lenient as jose, and agree. With all that is needed to make a test of it.
   */
  async ask(question: Question): Promise<OurOpinion> {
    const answer = await answerTo(question);
    const { ours, joses } = answer;
    this.questions++;
    if (isSame(ours, joses)) {
      const forbidding = forbiddenBy(answer);
      if (forbidding !== undefined) throw new Error(`accepted, although we refuse ${forbidding.name}:\n${describe(answer)}`);
      this.agreed.set(ours.stage, (this.agreed.get(ours.stage) ?? 0) + 1);
      return ours;
    }
    const explanations = await explain(answer);
    if (explanations.length === 0) throw new Error(`a difference that no explanation explains:\n${describe(answer)}`);
    for (const explanation of explanations) this.explained.set(explanation, (this.explained.get(explanation) ?? 0) + 1);
    return ours;
  }

  /** The explanations that were never needed, though they could have been. */
  async unused(): Promise<string[]> {
    const names: string[] = [];
    for (const [explanation, count] of this.explained) {
      if (count === 0 && (await explanation.canBeMet?.()) !== false) names.push(explanation.name);
    }
    return names;
  }

  /** By name, those that were met. */
  counts(): Record<string, number> {
    return Object.fromEntries([...this.explained].filter(([, count]) => count > 0).map(([{ name }, count]) => [name, count]));
  }

  text(): string {
    const agreed = [...this.agreed].map(([stage, count]) => `${stage} ${count}`).join(", ");
    const lines = [...this.explained].map(([{ name, stricter }, count]) => `${String(count).padStart(8)}  ${stricter} stricter: ${name}`);
    return [`${this.questions} questions; agreed: ${agreed}; differences by explanation:`, ...lines].join("\n");
  }
}

async function answerTo(question: Question): Promise<Difference> {
  const [ours, joses] = await Promise.all([ourOpinion(question), josesOpinion(question)]);
  return { question, ours, joses, token: readLeniently(question.token) };
}

function forbiddenBy(answer: Difference): Explanation | undefined {
  return answer.ours.stage === "accepted" ? EXPLANATIONS.find((explanation) => explanation.forbids?.(answer)) : undefined;
}

/** More reasons than one may lie behind one another; more than a few do not. */
const REASONS_MAX = 4;

/** Empty where there is no explanation, or where one does not lead to agreement. */
async function explain(difference: Difference, reasonsMax = REASONS_MAX): Promise<Explanation[]> {
  const found: Explanation[] = [];
  for (const explanation of EXPLANATIONS) {
    if (!explanation.holds(difference)) continue;
    if (explanation.repaired === undefined) {
      found.push(explanation);
      continue;
    }
    // jose has yet to say what it thinks of the rest, and we must not change our mind.
    const next = await answerTo(explanation.repaired(difference));
    if (JSON.stringify(next.ours) !== JSON.stringify(difference.ours)) continue;
    if (isSame(next.ours, next.joses)) {
      if (forbiddenBy(next) === undefined) found.push(explanation);
    } else if (reasonsMax > 1) {
      const further = await explain(next, reasonsMax - 1);
      if (further.length > 0) found.push(explanation, ...further);
    }
  }
  return [...new Set(found)];
}

function describe({ question, ours, joses, token }: Difference): string {
  return [
    `ours:    ${JSON.stringify(ours)}`,
    `jose's:  ${JSON.stringify(joses)}`,
    `header:  ${JSON.stringify(token.header.text)}`,
    `payload: ${JSON.stringify(token.payload.text)}`,
    `token:   ${JSON.stringify(question.token)}`,
    `keys:    ${JSON.stringify(question.jwks)}`,
    `now:     ${question.nowMs} ms`,
  ].join("\n");
}
