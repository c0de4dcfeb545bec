import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { newClientSecret, newOpaqueToken } from "../../packages/server/src/ids.ts";
import { MasterKeys } from "../../packages/server/src/keys/master-key.ts";

/* P7.8: the time that a guess takes says nothing of how much of it is right. In this process: a network would drown what there is to see. */

const SAMPLES = 20_000;
const WARM_UP = 5_000;
/** Of each side, the slowest: a garbage collection or another process took its time, and not the comparison. */
const CUT_SHARE = 0.05;
const T_MAX = 4.5;

type Check = (guess: string) => unknown;

/** Welch's t between the times of two guesses, taken in turns whose order is drawn, so that a drift of the machine falls on both. */
function welchOf(check: Check, right: string, wrong: string): number {
  const timesNs: [number[], number[]] = [[], []];
  const order = randomBytes(2 * (SAMPLES + WARM_UP));
  for (let n = 0; timesNs[0].length < SAMPLES + WARM_UP || timesNs[1].length < SAMPLES + WARM_UP; n++) {
    const side = ((order[n % order.length] ?? 0) & 1) as 0 | 1;
    if (timesNs[side].length >= SAMPLES + WARM_UP) continue;
    const guess = side === 0 ? right : wrong;
    const started = process.hrtime.bigint();
    check(guess);
    timesNs[side].push(Number(process.hrtime.bigint() - started));
  }
  const [a, b] = timesNs.map((times) => momentsOf(times.slice(WARM_UP))) as [Moments, Moments];
  return (a.mean - b.mean) / Math.sqrt(a.variance / a.count + b.variance / b.count);
}

interface Moments {
  readonly count: number;
  readonly mean: number;
  readonly variance: number;
}

function momentsOf(times: readonly number[]): Moments {
  const kept = times.toSorted((a, b) => a - b).slice(0, Math.floor(times.length * (1 - CUT_SHARE)));
  const mean = kept.reduce((sum, time) => sum + time, 0) / kept.length;
  const variance = kept.reduce((sum, time) => sum + (time - mean) ** 2, 0) / (kept.length - 1);
  return { count: kept.length, mean, variance };
}

/** The median of some rounds: a burst of load on the machine spoils one of them. */
function medianWelch(name: string, check: Check, right: string, wrong: string): number {
  const rounds = Array.from({ length: 5 }, () => welchOf(check, right, wrong)).toSorted((a, b) => a - b);
  console.log(`${name}: t = ${rounds.map((t) => t.toFixed(2)).join(", ")}, ${SAMPLES} samples of each side in each`);
  return rounds[2] ?? Number.NaN;
}

/** All of it but its last character, and nothing of it but its length. */
function guessesOf(secret: string): { readonly right: string; readonly wrong: string } {
  const other = (character: string) => (character === "a" ? "b" : "a");
  return { right: `${secret.slice(0, -1)}${other(secret.at(-1) ?? "")}`, wrong: secret.replaceAll(/./g, other) };
}

/** What must not be: the first character that differs ends it. */
function leaky(secret: string): Check {
  return (guess) => {
    for (let i = 0; i < secret.length; i++) if (guess.charCodeAt(i) !== secret.charCodeAt(i)) return false;
    return guess.length === secret.length;
  };
}

const masterKeys = new MasterKeys([randomBytes(32), randomBytes(32)]);

test("P7.8: a client secret that is right but for its last character takes as long as one that is wrong from its first", () => {
  const secret = newClientSecret();
  const kept = [masterKeys.hashSecret(secret), masterKeys.hashSecret(newClientSecret())];
  const { right, wrong } = guessesOf(secret);
  expect(masterKeys.findSecret(secret, kept)).toBe(0);
  for (const guess of [right, wrong]) expect(masterKeys.findSecret(guess, kept)).toBe(-1);
  const t = medianWelch("client secret", (guess) => masterKeys.findSecret(guess, kept), right, wrong);
  expect(Math.abs(t)).toBeLessThan(T_MAX);
});

test("P7.8: so does an opaque token, of which only a keyed hash is ever looked for", () => {
  const { right, wrong } = guessesOf(newOpaqueToken());
  const t = medianWelch("opaque token", (guess) => masterKeys.hashesOf(guess), right, wrong);
  expect(Math.abs(t)).toBeLessThan(T_MAX);
});

test("CONTROL: a comparison that stops at the first difference is found out by the same measure", () => {
  const secret = newClientSecret();
  const { right, wrong } = guessesOf(secret);
  const t = medianWelch("control", leaky(secret), right, wrong);
  expect(t).toBeGreaterThan(T_MAX);
});
