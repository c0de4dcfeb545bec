import { connect, type Socket } from "node:net";

const READ_BYTES = 64 * 1024;

/** Of all readers: what is in it is looked at before the next one reads. */
const buffer = Buffer.alloc(READ_BYTES);

/** Of the machine, and so of the server's process too (streams-server.mjs). */
export const nowMicros = () => Number(process.hrtime.bigint() / 1000n);

/**
 * A stream that is read. No HTTP library, and no parser of events: the loader must cost less than what it loads, and what comes is searched for
 * what is asked. The servers write whole events, so that a chunk of HTTP ends between two of them.
 */
export class StreamReader {
  /** Told of whole events, as many as have come. */
  private onText: (text: string) => void = () => undefined;
  private onLost: (error: Error) => void = () => undefined;
  private readonly socket: Socket;
  private isOpen = false;
  private rest = "";
  private isClosing = false;
  /** The server has closed it. */
  isLost = false;

  private constructor(port: number) {
    const callback = (bytes: number) => {
      this.take(this.rest + buffer.toString("latin1", 0, bytes));
      return true;
    };
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true, onread: { buffer, callback } });
    this.socket.on("error", (error) => this.lose(error));
    this.socket.on("close", () => this.lose(new Error("the server closed a stream")));
  }

  /** Resolves with the head of the answer. Rejects where that is not 200. */
  static open(port: number, path: string, headers: Readonly<Record<string, string>> = {}): Promise<StreamReader> {
    return new Promise((resolve, reject) => {
      const reader = new StreamReader(port);
      reader.onLost = reject;
      reader.onText = (head) => {
        if (head.startsWith("HTTP/1.1 200 ")) resolve(reader);
        else reject(new Error(`a stream was answered:\n${head}`));
        reader.onText = () => undefined;
      };
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
      reader.socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${lines.join("")}\r\n`);
    });
  }

  /** @param onText is told of all events from now on, several at a time; it gives true where it has what it waited for. */
  until(onText: (text: string) => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.onLost = reject;
      this.onText = (text) => {
        if (onText(text)) resolve();
      };
    });
  }

  close(): void {
    this.isClosing = true;
    this.socket.destroy();
  }

  private take(text: string): void {
    const separator = this.isOpen ? "\n\n" : "\r\n\r\n";
    const end = this.isOpen ? text.lastIndexOf(separator) : text.indexOf(separator);
    if (end < 0) {
      this.rest = text;
      return;
    }
    this.rest = text.slice(end + separator.length);
    const wasOpen = this.isOpen;
    this.isOpen = true;
    this.onText(text.slice(0, end + separator.length));
    if (!wasOpen && this.rest !== "") this.take(this.rest);
  }

  private lose(error: Error): void {
    if (this.isClosing) return;
    this.isLost = true;
    this.close();
    this.onLost(error);
  }
}
