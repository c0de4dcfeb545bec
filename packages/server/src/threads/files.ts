import { z } from "zod";
import { type FormPart, oneFile } from "../http/multipart.ts";
import { type FieldError, Problem } from "../http/problem.ts";
import { defineRoute, type Route } from "../http/route.ts";
import { isEntityId, newEntityId } from "../ids.ts";
import type { NewFile, ThreadOwner, ThreadStore } from "../storage/thread-store.ts";
import { ABSENT_DOCS, absent, AUTH, HOME, ownerOf, requireOwnId, type ThreadDeps, threadParams } from "./thread.ts";

const MIB = 1024 * 1024;
const FILE_BYTES_MAX = 10 * MIB;
/** Boundaries, headers, and parts that should not be there, which are refused by their names. */
const FORM_BYTES_MAX = FILE_BYTES_MAX + 64 * 1024;
/** Of a thread. */
const LIMITS = { countMax: 100, bytesMax: 100 * MIB };
const NAME_CHARACTERS_MAX = 255;
const MEDIA_TYPE_CHARACTERS_MAX = 255;

/** Upload a file to a thread (contract §6). There is no way to download it: it is for the agent. */
export function fileRoutes({ threads, nowMs }: ThreadDeps): Route[] {
  return [
    defineRoute({
      operationId: "uploadFile",
      method: "POST",
      path: `${HOME}/:thread_id/files`,
      auth: AUTH,
      browser: true,
      bodyBytesMax: FORM_BYTES_MAX,
      takesMultipart: true,
      docs: {
        summary: "Upload File",
        description:
          "As multipart/form-data with one part, `file`, which has a filename; send it with a message by its id. " +
          `Up to ${FILE_BYTES_MAX / MIB} MiB; of a thread ${LIMITS.countMax} files and ${LIMITS.bytesMax / MIB} MiB. All of it has to arrive within 15 seconds. ` +
          "The filename is kept to be shown, without its path, and the media type as it is sent: nobody looks at the content, and it cannot be downloaded.",
        tag: "threads",
        answers: {
          200: { description: "Stored.", body: z.strictObject({ success: z.literal(true), file_id: z.uuid() }) },
          404: ABSENT_DOCS,
          409: {
            description: `The thread has ${LIMITS.countMax} files, or ${LIMITS.bytesMax / MIB} MiB of them with this one; nothing was stored.`,
          },
          503: {
            description: "The store does not answer, or too many uploads are under way; try again.",
            headers: { "Retry-After": "Seconds until it is worth trying again." },
          },
        },
      },
      params: threadParams,
      body: z.strictObject({ file: oneFile }),
      async handle({ params, body, principal }) {
        const threadId = requireOwnId(params.thread_id, "thread");
        const file = toFile(body.file);
        const outcome = await threads.addFile(ownerOf(principal), threadId, file, { ...LIMITS, nowMs: nowMs() });
        if (outcome === "absent") throw absent("thread");
        if (outcome === "full") {
          const limits = `${LIMITS.countMax} files and ${LIMITS.bytesMax / MIB} MiB together`;
          throw new Problem(409, `The thread may have ${limits}; go on in a new thread, or delete this one.`);
        }
        return { status: 200, body: { success: true, file_id: file.fileId } };
      },
    }),
  ];
}

/** @throws Problem 413. */
function toFile({ fileName = "", mediaType, content }: FormPart): NewFile {
  if (content.byteLength > FILE_BYTES_MAX) throw new Problem(413, `The file is over ${FILE_BYTES_MAX / MIB} MiB.`);
  return { fileId: newEntityId(), name: shownName(fileName), mediaType: declaredType(mediaType), content };
}

/** Controls, the ends of lines and paragraphs, and what makes text run the other way: `report\u202Efdp.exe` would be read as a PDF. */
const UNSHOWN = /[\p{Cc}\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/gu;

/** For people to read, and for nothing else: no path, whatever system it is from. Nothing of ours opens a file by it. */
export function shownName(fileName: string): string {
  const name = fileName
    .replaceAll(UNSHOWN, "")
    .replace(/^.*[/\\]/s, "")
    .slice(0, NAME_CHARACTERS_MAX)
    .replace(/[\uD800-\uDBFF]$/, "")
    .trim();
  return /^\.*$/.test(name) ? "file" : name;
}

const MEDIA_TYPE = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:[ \t]*;[\t\x20-\x7e]*)?$/;

/** What looks like one (RFC 6838 §4.2) is kept as it is sent, and is never what the content is taken for. */
export function declaredType(mediaType: string | undefined): string {
  const isOne = mediaType !== undefined && mediaType.length <= MEDIA_TYPE_CHARACTERS_MAX && MEDIA_TYPE.test(mediaType);
  return isOne ? mediaType : "application/octet-stream";
}

/** Also where a file is another thread's or another partner's: that reads like one that never was. @throws Problem 404 or 422. */
export async function requireFiles(
  threads: Pick<ThreadStore, "findFiles">,
  owner: ThreadOwner,
  threadId: string,
  fileIds: readonly string[],
): Promise<void> {
  if (fileIds.length === 0) return;
  const found = await threads.findFiles(owner, threadId, fileIds.filter(isEntityId));
  if (found === undefined) throw absent("thread");
  const known = new Set(found.map(({ fileId }) => fileId));
  const fields = fileIds.flatMap((id, index): FieldError[] => {
    const message = fileIds.indexOf(id) < index ? "is there twice" : "is not the id of a file of this thread";
    return known.delete(id) ? [] : [{ field: `file_ids.${index}`, message }];
  });
  const [first] = fields;
  if (first !== undefined) throw new Problem(422, `${first.field} ${first.message}.`, { fields });
}
