import { expect, test } from "vitest";
import { freshForMs } from "./freshness.ts";

const DATE = "Sun, 06 Nov 1994 08:49:37 GMT";

test.each([
  [{}, 300],
  [{ "cache-control": "max-age=120" }, 120],
  [{ "cache-control": "public, MAX-AGE=120, must-revalidate" }, 120],
  [{ "cache-control": 'max-age="120"' }, 120],
  [{ "cache-control": "max-age=120", age: "30" }, 90],
  [{ "cache-control": "max-age=120", age: "many" }, 120],
  [{ "cache-control": "max-age=31536000" }, 600], // P5.22
  [{ "cache-control": "max-age=99999999999999999999" }, 600],
  [{ "cache-control": "max-age=0" }, 60],
  [{ "cache-control": "no-store" }, 60], // P5.22
  [{ "cache-control": "no-cache" }, 60],
  [{ "cache-control": "no-cache, max-age=600" }, 60],
  [{ "cache-control": 'no-cache="set-cookie", max-age=600' }, 60],
  [{ "cache-control": "s-maxage=120" }, 300], // for shared caches
  [{ "cache-control": "max-age=-5" }, 300],
  [{ "cache-control": "max-age=1e3" }, 300],
  [{ "cache-control": "x-max-age=500" }, 300],
  [{ expires: "Sun, 06 Nov 1994 08:51:37 GMT", date: DATE }, 120],
  [{ expires: "Sun, 06 Nov 1994 08:51:37 GMT" }, 60],
  [{ expires: "0", date: "x" }, 60],
  [{ expires: "never", date: DATE }, 60],
  [{ expires: "Sun, 06 Nov 1994 08:51:37 GMT", date: DATE, "cache-control": "max-age=200" }, 200],
])("%j is fresh for %i s", (headers, seconds) => {
  expect(freshForMs(headers)).toBe(seconds * 1000);
});
