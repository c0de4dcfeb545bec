import { expect, test } from "vitest";
import { isWebOrigin } from "./cors.ts";

test.each([
  "https://a.example",
  "https://a.example:8443",
  "https://xn--mller-kva.example",
  "https://[2001:db8::1]",
  "http://localhost",
  "http://localhost:3000",
  "http://127.0.0.1:3000",
  "http://[::1]:3000",
])("%s is an origin that a partner may list", (text) => {
  expect(isWebOrigin(text)).toBe(true);
});

test.each([
  "",
  "null",
  "*",
  "https://*.a.example",
  "https://a.example/",
  "https://a.example/path",
  "https://a.example:443",
  "https://A.example",
  "HTTPS://a.example",
  "https://müller.example",
  "https://user@a.example",
  "https://a.example?x",
  "https://a.example#x",
  " https://a.example",
  "https://a.example\n",
  "https://a.example\\",
  "https:/a.example",
  "https:a.example",
  "http://a.example",
  "http://127.0.0.2",
  "http://127.1",
  "http://localhost.a.example",
  "http://localhost:80",
  "ws://localhost",
  "file:///x",
  "blob:https://a.example/1",
  "data:,x",
  "a.example",
])("%j is none", (text) => {
  expect(isWebOrigin(text)).toBe(false);
});
