import { connect, type Socket } from "node:net";

export type OnAnswer = (status: number, answer: string) => void;

const READ_BYTES = 16 * 1024;
const CONTENT_LENGTH = /\r\ncontent-length: *(\d+)/i;

/**
 * A warm connection with one request in flight. No HTTP library: the loader must cost less than what it loads, so a request is bytes
 * made beforehand, and an answer is cut at its Content-Length. Chunked answers are not read; neither server sends them here.
 */
export class Connection {
  private readonly socket: Socket;
  private readonly onLost: (error: Error) => void;
  private received = "";
  private onAnswer: OnAnswer | undefined;
  private closing = false;

  private constructor(port: number, onLost: (error: Error) => void) {
    this.onLost = onLost;
    const onread = {
      buffer: Buffer.alloc(READ_BYTES),
      callback: (bytes: number, buffer: Uint8Array) => {
        this.take(Buffer.from(buffer.buffer, buffer.byteOffset, bytes).toString("latin1"));
        return true;
      },
    };
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true, onread });
    this.socket.on("error", (error) => this.lose(error));
    this.socket.on("close", () => this.lose(new Error("the server closed a connection")));
  }

  /** `onLost` is called once for a connection that breaks off before {@link close}. */
  static open(port: number, onLost: (error: Error) => void): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const connection = new Connection(port, (error) => {
        reject(error);
        onLost(error);
      });
      connection.socket.once("connect", () => resolve(connection));
    });
  }

  send(request: Buffer, onAnswer: OnAnswer): void {
    this.onAnswer = onAnswer;
    this.socket.write(request);
  }

  close(): void {
    this.closing = true;
    this.socket.destroy();
  }

  private take(text: string): void {
    this.received = this.received === "" ? text : this.received + text;
    const headEnd = this.received.indexOf("\r\n\r\n");
    if (headEnd < 0) return;
    const length = CONTENT_LENGTH.exec(this.received)?.[1];
    if (length === undefined) return this.lose(new Error(`an answer without Content-Length:\n${this.received.slice(0, headEnd)}`));
    if (this.received.length < headEnd + 4 + Number(length)) return;
    const answer = this.received;
    this.received = "";
    this.onAnswer?.(Number(answer.slice(9, 12)), answer);
  }

  private lose(error: Error): void {
    if (this.closing) return;
    this.close();
    this.onLost(error);
  }
}
