import type { EventSink } from "./route.ts";

/** What of Node's response is needed. */
interface Response {
  /** With what its connection holds. */
  readonly writableLength: number;
  write(bytes: string | Uint8Array): boolean;
  end(last: string): unknown;
  on(event: "drain" | "error", listener: () => void): unknown;
}

/** What of the connection that the response is sent on, and which ends with it. */
interface Connection {
  readonly destroyed: boolean;
  destroy(): unknown;
  setMaxListeners(count: number): unknown;
  on(event: "close", listener: () => void): unknown;
}

/**
 * The end is the connection's: a response that waits behind another one on it (pipelining, RFC 9112 §9.3.2) never hears that it is gone, and whoever asks
 * for streams in that way would take their partner's room for good.
 */
export function eventSink(response: Response, connection: Connection): EventSink {
  response.on("error", () => undefined); // written to after the client has gone: "close" says so
  connection.setMaxListeners(0); // as many as are asked for behind one another
  return {
    get pendingBytes() {
      return response.writableLength;
    },
    write: (bytes) => response.write(bytes),
    end: (last) => void response.end(last),
    destroy: () => void connection.destroy(),
    onDrain: (listener) => void response.on("drain", listener),
    onClose(listener) {
      if (connection.destroyed) listener();
      else connection.on("close", listener);
    },
  };
}
