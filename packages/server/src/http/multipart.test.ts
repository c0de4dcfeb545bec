import { File } from "node:buffer";
import { describe, expect, test } from "vitest";
import { leastCpuMs } from "../../../protocol/src/testing/least-cpu-ms.ts";
import { boundaryOf, parseMultipart } from "./multipart.ts";
import { Problem } from "./problem.ts";

const B = "bound";
const DISPOSITION = 'Content-Disposition: form-data; name="file"; filename="a.txt"';

function partOf(headers: string, content = "hi", boundary = B): string {
  return `--${boundary}\r\n${headers}\r\n\r\n${content}\r\n`;
}

const bytes = (text: string) => Buffer.from(text, "latin1");
const END = `--${B}--\r\n`;
const parse = (text: string) => parseMultipart(B, bytes(text));
const ofFile = (parameters: string) => parse(partOf(`Content-Disposition: form-data; name="file"${parameters}`) + END)["file"]?.[0];

/** Of what is thrown. */
function refusal(work: () => unknown): string {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof Problem) return `${thrown.status} ${thrown.message}`;
    throw thrown;
  }
  return "nothing was thrown";
}

describe("a form of parts", () => {
  test("has its parts by their names, byte for byte, in order", () => {
    const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)).toString("latin1");
    const content = `${every}\r\n--boun\r\n\r\n--\r\n\n--${B}\r--${B}${every}`;
    const form = parse(
      partOf(`${DISPOSITION}\r\nContent-Type: text/plain; charset=x`, content) +
        partOf("content-disposition:FORM-DATA;name=file;filename=b", "") +
        partOf('Content-Disposition: form-data; name="note"\r\nContent-Transfer-Encoding: 8BIT', "n") +
        END,
    );
    expect(form["file"]).toEqual([
      { name: "file", fileName: "a.txt", mediaType: "text/plain; charset=x", content: bytes(content) },
      { name: "file", fileName: "b", mediaType: undefined, content: bytes("") },
    ]);
    expect(form["note"]).toEqual([{ name: "note", fileName: undefined, mediaType: undefined, content: bytes("n") }]);
    expect(Object.keys(form)).toEqual(["file", "note"]);
  });

  test("has no parts, a part that looks like a property of every object, and no end of its last line", () => {
    expect(parse(END)).toEqual({});
    expect(Object.keys(parse(partOf('Content-Disposition: form-data; name="__proto__"') + END.trimEnd()))).toEqual(["__proto__"]);
  });

  test("keeps what is itself a form of parts as it is", () => {
    const inner = partOf(DISPOSITION, "inner", "other") + "--other--\r\n";
    const [file] = parse(partOf(`${DISPOSITION}\r\nContent-Type: multipart/mixed; boundary=other`, inner) + END)["file"] ?? [];
    expect(file).toMatchObject({ mediaType: "multipart/mixed; boundary=other", content: bytes(inner) });
  });

  test.each([
    ["; filename*=UTF-8''%e2%82%ac%20rates.txt", "€ rates.txt"],
    ["; filename=\"old\"; filename*=utf-8'de'neu", "neu"],
    [`; filename="${Buffer.from("naïve €.txt").toString("latin1")}"`, "naïve €.txt"],
    ['; filename="a%22%0D%0AContent-Type: x%41"', 'a"\r\nContent-Type: x%41'],
    ['; filename="a\\"b\\\\c\\d"', 'a"b\\c\\d'],
    ['; filename="C:\\new\\x.pdf"', "C:\\new\\x.pdf"],
    ["; filename=plain.txt", "plain.txt"],
    ['; filename=""', ""],
    ['; filename="a;b=c"', "a;b=c"],
    ['; filename="a\0b"', "a\0b"],
    ["", undefined],
  ])("has the name of a file as clients write it: %j", (parameters, fileName) => {
    expect(ofFile(parameters)).toMatchObject({ fileName });
  });

  test.each([
    ["without its boundary at the beginning", `\r\n${partOf(DISPOSITION)}${END}`],
    ["with something before its first part", `x\r\n${partOf(DISPOSITION)}${END}`],
    ["with something behind its end", `${partOf(DISPOSITION)}${END}x`],
    ["with two ends", `${partOf(DISPOSITION)}${END}${END}`],
    ["that breaks off in a content", partOf(DISPOSITION)],
    ["that breaks off in the last boundary", `${partOf(DISPOSITION)}--${B}-`],
    ["that breaks off behind a boundary", `${partOf(DISPOSITION)}--${B}\r\n`],
    ["that is empty", ""],
    ["with a boundary that goes on", partOf(DISPOSITION, `x\r\n--${B}x\r\n`) + END],
    ["with space behind a boundary", `--${B} \r\n${DISPOSITION}\r\n\r\nx\r\n${END}`],
    ["with lines that end in LF", (partOf(DISPOSITION) + END).replaceAll("\r\n", "\n")],
    ["with headers that do not end", `--${B}\r\n${DISPOSITION}\r\n${END}`],
    ["with headers that are long", partOf(`X: ${"x".repeat(8_200)}\r\n${DISPOSITION}`) + END],
    [
      "with many headers",
      partOf(`${"X: x\r\n".repeat(1)}${Array.from({ length: 10 }, (_, n) => `X${n}: x\r\n`).join("")}${DISPOSITION}`) + END,
    ],
    ["with a header twice", partOf(`${DISPOSITION}\r\ncontent-disposition: form-data; name="x"`) + END],
    ["with a folded header", partOf(`${DISPOSITION};\r\n x="y"`) + END],
    ["with a bare CR in a header", partOf(`${DISPOSITION}\rX: y`) + END],
    ["with a bare LF in a header", partOf(`${DISPOSITION}\nX: y`) + END],
    ["with a header that is not UTF-8", partOf(`${DISPOSITION}\r\nX: \xff`) + END],
    ["without Content-Disposition", partOf("Content-Type: text/plain") + END],
    ["with another disposition", partOf('Content-Disposition: attachment; name="file"') + END],
    ["without a name", partOf('Content-Disposition: form-data; filename="x"') + END],
    ["with a name twice", partOf('Content-Disposition: form-data; name="file"; name="x"') + END],
    ["with a quote that does not end", partOf('Content-Disposition: form-data; name="file') + END],
    ["with a filename* of another charset", partOf("Content-Disposition: form-data; name=file; filename*=latin1''x") + END],
    ["with a filename* that is not UTF-8", partOf("Content-Disposition: form-data; name=file; filename*=UTF-8''%ff") + END],
    ["with base64", partOf(`${DISPOSITION}\r\nContent-Transfer-Encoding: base64`, "aGk=") + END],
  ])("%s is refused", (_case, text) => {
    expect(refusal(() => parse(text))).toMatch(/^400 The form is malformed: /);
  });

  test("has 20 parts at most; those behind are not looked at", () => {
    expect(parse(partOf(DISPOSITION).repeat(20) + END)["file"]).toHaveLength(20);
    const many = bytes(`${partOf(DISPOSITION).repeat(100_000)}and no end`);
    const read = () => refusal(() => parseMultipart(B, many));
    expect(read()).toBe("422 The form has over 20 parts.");
    expect(leastCpuMs(read, 100)).toBeLessThan(100);
  });

  test.each([
    ["backslashes", `name="${"\\".repeat(8_000)}`],
    ["quotes", `name="x"${'; x="'.repeat(1_500)}`],
    ["semicolons", `name=x${";".repeat(8_000)}`],
    ["spaces", `name=x;${" ".repeat(8_000)}`],
    ["percents", `name=x; filename*=UTF-8''${"%e2".repeat(2_600)}`],
  ])("is refused in no time where a header is full of %s", (_case, parameters) => {
    const read = () => refusal(() => parse(partOf(`Content-Disposition: form-data; ${parameters}`) + END));
    expect(read()).toMatch(/^400/);
    expect(leastCpuMs(read, 500)).toBeLessThan(500);
  });

  test("is read in no time where 10 MiB are full of what boundaries begin with", () => {
    for (const filler of [`\r\n--${B.slice(0, -1)}`, "\r\n", "-"]) {
      const content = filler.repeat(Math.floor((10 * 1024 * 1024) / filler.length));
      const text = bytes(partOf(DISPOSITION, content) + END);
      expect(parseMultipart(B, text)["file"]?.[0]?.content.byteLength).toBe(content.length);
      expect(leastCpuMs(() => parseMultipart(B, text), 1_000)).toBeLessThan(1_000);
    }
  });
});

describe("as Node writes it", () => {
  test.each(["plain.txt", "naïve €.txt", 'a"b\r\nX: y.txt', "back\\slash", "%41", "a;b", "x".repeat(2_000)])(
    "a file named %j is read",
    async (name) => {
      const form = new FormData();
      form.append("file", new File([bytes(`\r\n--${B}\0\xff`)], name, { type: "text/x" }) as Blob, name);
      const written = new Response(form);
      const boundary = boundaryOf(written.headers.get("content-type") ?? "");
      const read = parseMultipart(boundary, Buffer.from(await written.arrayBuffer()));
      expect(read["file"]).toEqual([{ name: "file", fileName: name, mediaType: "text/x", content: bytes(`\r\n--${B}\0\xff`) }]);
    },
  );
});

describe("the boundary", () => {
  test.each([
    ["multipart/form-data; boundary=x", "x"],
    ["Multipart/Form-Data;BOUNDARY=----WebKitFormBoundaryA1", "----WebKitFormBoundaryA1"],
    ['multipart/form-data; boundary="a b\'()+_,-./:=?"', "a b'()+_,-./:=?"],
    ["multipart/form-data; charset=UTF-8; boundary=x", "x"],
    ["multipart/form-data; boundary=x; charset=utf-8", "x"],
    [`multipart/form-data; boundary=${"x".repeat(70)}`, "x".repeat(70)],
  ])("of %j", (mediaType, boundary) => {
    expect(boundaryOf(mediaType)).toBe(boundary);
  });

  test.each([
    undefined,
    "",
    "application/json",
    "multipart/mixed; boundary=x",
    "multipart/form-data-x; boundary=x",
    "multipart/form-data ; boundary=x",
    "x, multipart/form-data; boundary=x",
  ])("where the body is no such form: %j", (mediaType) => {
    expect(refusal(() => boundaryOf(mediaType))).toMatch(/^415/);
  });

  test.each([
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""',
    'multipart/form-data; boundary="x ',
    'multipart/form-data; boundary="x "',
    "multipart/form-data; boundary=x y",
    "multipart/form-data; boundary=x; boundary=y",
    "multipart/form-data; boundary=x\r\n",
    "multipart/form-data; boundary=é",
    `multipart/form-data; boundary=${"x".repeat(71)}`,
    "multipart/form-data; x=y; boundary=x",
  ])("that cannot be one: %j", (mediaType) => {
    expect(refusal(() => boundaryOf(mediaType))).toMatch(/^400/);
  });
});
