import type { AgentEvent, Citation } from "../agents/agent.ts";
import { newEntityId } from "../ids.ts";
import type { ClaimedTask, EventBatch, LeaseState, StoredEvent, TaskOutput } from "../storage/thread-store.ts";
import type { OutputSource } from "./event-writer.ts";
import { chunkEvent, chunkText, lastIdOf, logEvent } from "./thread-events.ts";

const ANSWER_CHARACTERS_MAX = 200_000;
const ARTIFACTS_MAX = 50;
const ARTIFACT_CHARACTERS_MAX = 1_000_000;
const CITATIONS_MAX = 200;
const CITATION_CHARACTERS_MAX = 20_000;
const LOG_LINES_MAX = 10_000;
const LOG_LINES_KEPT = 100;
const LOG_LINE_CHARACTERS_MAX = 1_000;
/** Of output that is not written yet: the agent waits beyond that. */
const UNWRITTEN_CHARACTERS_MAX = 100_000;
/** Of an event beside its text: many empty ones are not for nothing. */
const EVENT_CHARACTERS = 60;

/** What an agent has said so far, and what of it is not written yet. */
export class TaskOutputs implements OutputSource {
  private readonly task: ClaimedTask;
  private readonly onState: (state: LeaseState | undefined) => void;
  isNew = true;
  /** Of all chunks. */
  text = "";
  readonly citations: Citation[] = [];
  private artifactCount = 0;
  private logLineCount = 0;
  /** The latest of them. */
  private readonly logLines: string[] = [];
  private nextId: number;
  private events: StoredEvent[] = [];
  private artifacts: TaskOutput["artifacts"][number][] = [];
  private isLogNew = false;
  /** What is being written included. */
  private unwrittenCharacters = 0;
  private takenCharacters = 0;
  private onRoom: (() => void) | undefined;

  /** @param onState is told what became of the lease each time that something was written. */
  constructor(task: ClaimedTask, onState: (state: LeaseState | undefined) => void) {
    this.task = task;
    this.onState = onState;
    this.nextId = task.eventsAfter + 1;
  }

  /** What is in the store already, of an earlier attempt. */
  recover(batch: EventBatch): void {
    this.text += chunkText(batch.events);
    this.nextId = lastIdOf(batch) + 1;
  }

  get lastEventId(): number {
    return this.nextId - 1;
  }

  /** @throws Error where the agent says too much. */
  add(event: AgentEvent): void {
    switch (event.kind) {
      case "log":
        return this.addLog(event.line.slice(0, LOG_LINE_CHARACTERS_MAX));
      case "chunk":
        return this.addChunk(event.text);
      case "citation":
        return this.addCitation(event.citation);
      case "artifact":
        return this.addArtifact(event.artifact);
    }
  }

  private addLog(line: string): void {
    if (++this.logLineCount > LOG_LINES_MAX) throw new Error(`the agent wrote over ${LOG_LINES_MAX} lines to its log`);
    this.logLines.push(line);
    if (this.logLines.length > LOG_LINES_KEPT) this.logLines.shift();
    this.isLogNew = true;
    this.push(logEvent(line), line.length);
  }

  private addCitation(citation: Citation): void {
    if (this.citations.length >= CITATIONS_MAX) throw new Error(`the agent gave over ${CITATIONS_MAX} citations`);
    const json = JSON.stringify(citation);
    if (json.length > CITATION_CHARACTERS_MAX) throw new Error(`a citation of the agent is over ${CITATION_CHARACTERS_MAX} characters`);
    this.citations.push(JSON.parse(json) as Citation); // as it is now, whatever the agent does with it later
  }

  private addChunk(text: string): void {
    // what cannot be written as JSON would hold up all tasks that are written with it
    if (typeof text !== "string") throw new Error("a chunk of the agent is not text");
    if (this.text.length + text.length > ANSWER_CHARACTERS_MAX) {
      throw new Error(`the agent's answer is over ${ANSWER_CHARACTERS_MAX} characters`);
    }
    if (text === "") return;
    this.text += text;
    this.push(chunkEvent(text), text.length);
  }

  /** The final chunk: all chunks together are the message. */
  addEnding(text: string): void {
    this.text += text;
    this.push(chunkEvent(text, true), text.length);
  }

  /** What refers to it stands alone in a fenced block (contract §6). */
  private addArtifact(artifact: Readonly<Record<string, unknown>>): void {
    const json = JSON.stringify(artifact);
    const characters = json.length;
    if (++this.artifactCount > ARTIFACTS_MAX) throw new Error(`the agent made over ${ARTIFACTS_MAX} artifacts`);
    if (characters > ARTIFACT_CHARACTERS_MAX) throw new Error(`an artifact of the agent is over ${ARTIFACT_CHARACTERS_MAX} characters`);
    const artifactId = newEntityId();
    this.artifacts.push({ artifactId, artifact: JSON.parse(json) as unknown }); // as it is now
    this.unwrittenCharacters += characters;
    const reference = JSON.stringify({ type: "output_artifact", artifact_id: artifactId });
    const before = this.text === "" || this.text.endsWith("\n") ? "" : "\n";
    this.addChunk(`${before}\`\`\`json\n${reference}\n\`\`\`\n`);
  }

  private push(event: StoredEvent, characters: number): void {
    this.events.push(event);
    this.unwrittenCharacters += EVENT_CHARACTERS + characters;
  }

  /** Too much is not written yet. */
  get isFull(): boolean {
    return this.unwrittenCharacters > UNWRITTEN_CHARACTERS_MAX;
  }

  /** Resolves when something was written, or the signal is aborted. */
  async room(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const onRoom = () => {
        signal.removeEventListener("abort", onRoom);
        resolve();
      };
      this.onRoom = onRoom;
      signal.addEventListener("abort", onRoom);
    });
  }

  take(): TaskOutput {
    const { partnerId, threadId, taskId, leaseId } = this.task;
    const { events, artifacts, nextId: firstId } = this;
    const log = this.isLogNew ? this.logLines.join("\n") : undefined;
    this.isNew = false;
    this.events = [];
    this.artifacts = [];
    this.isLogNew = false;
    this.takenCharacters = this.unwrittenCharacters;
    this.nextId += events.length;
    return { partnerId, threadId, taskId, leaseId, firstId, events, artifacts, log };
  }

  written(state: LeaseState | undefined): void {
    this.unwrittenCharacters -= this.takenCharacters;
    this.onRoom?.();
    this.onState(state);
  }

  putBack(output: TaskOutput): void {
    this.events = [...output.events, ...this.events];
    this.artifacts = [...output.artifacts, ...this.artifacts];
    this.isLogNew ||= output.log !== undefined;
    this.nextId = output.firstId;
  }
}
