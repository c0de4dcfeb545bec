import type { EventSink } from "./route.ts";

/** What of Node's response is needed. */
interface Response {
  readonly destroyed: boolean;
  write(bytes: string | Uint8Array): boolean;
  end(last: string): unknown;
  destroy(): unknown;
  on(event: "drain" | "close" | "error", listener: () => void): unknown;
}

export function eventSink(response: Response): EventSink {
  response.on("error", () => undefined); // written to after the client has gone: "close" says so
  return {
    write: (bytes) => response.write(bytes),
    end: (last) => void response.end(last),
    destroy: () => void response.destroy(),
    onDrain: (listener) => void response.on("drain", listener),
    onClose(listener) {
      if (response.destroyed) listener();
      else response.on("close", listener);
    },
  };
}
