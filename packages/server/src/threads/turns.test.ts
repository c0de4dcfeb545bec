import { expect, test } from "vitest";
import { Turns } from "./turns.ts";

const numbers = (count: number) => Array.from({ length: count }, (_n, index) => index);

test("everything has its turn before anything has its next one, whatever is taken at once of whatever number", () => {
  for (const size of [1, 2, 7, 9, 10]) {
    for (const atOnce of [1, 2, 3, 9, 10, 11]) {
      const turns = new Turns(new Set(numbers(size)));
      const taken = numbers(20).map(() => turns.take(atOnce));
      for (const turn of taken) expect(turn).toHaveLength(Math.min(atOnce, size));
      expect(taken.flat(), `${atOnce} of ${size}`).toEqual(taken.flat().map((_one, index) => index % size));
    }
  }
});

test("what comes and goes between turns makes nothing else lose its own", () => {
  const all = new Map(numbers(6).map((number) => [number, number]));
  const turns = new Turns(all);
  expect(turns.take(3)).toEqual([0, 1, 2]);
  for (const gone of [0, 2, 3]) all.delete(gone);
  all.set(6, 6);
  expect(turns.take(2)).toEqual([4, 5]);
  expect(turns.take(3)).toEqual([6, 1, 4]);
  all.clear();
  expect(turns.take(3)).toEqual([]);
  all.set(7, 7);
  expect(turns.take(3)).toEqual([7]);
  expect(turns.take(0)).toEqual([]);
});

test("whoever stops goes on behind what it was given last", () => {
  const turns = new Turns(new Set(numbers(4)));
  const until = (last: number) => {
    const given: number[] = [];
    for (const one of turns.next()) {
      given.push(one);
      if (one === last) break;
    }
    return given;
  };
  expect([until(1), until(0), until(9)]).toEqual([
    [0, 1],
    [2, 3, 0],
    [1, 2, 3, 0],
  ]);
});
