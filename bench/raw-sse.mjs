// The least that a server of events can do: bare node:http, nothing stored, each event of its own written for each connection. The unit for
// events per second. `/loop` writes to a connection until it is full, then goes on at "drain"; `/turns` writes one event to each connection in
// each turn of the event loop, as events come that are not all there yet. It begins when all connections are there.
import { createServer } from "node:http";

const waiting = new Map();

function event(id, text) {
  return `id: ${id}\nevent: message_chunk\ndata: ${JSON.stringify({ message_chunk: { message: text, final_chunk: false } })}\n\n`;
}

const LAST = "event: task_status\ndata: {}\n\n";

function runLoop(response, count, text) {
  let id = 0;
  const write = () => {
    while (id < count) {
      if (!response.write(event(++id, text))) return void response.once("drain", write);
    }
    response.end(LAST);
  };
  write();
}

function runTurns(responses, count, text) {
  const open = new Set(responses.map((response) => ({ response, id: 0, isFull: false })));
  const turn = () => {
    for (const at of open) {
      if (at.isFull) continue;
      at.isFull = !at.response.write(event(++at.id, text));
      if (at.isFull) at.response.once("drain", () => (at.isFull = false));
      if (at.id < count) continue;
      at.response.end(LAST);
      open.delete(at);
    }
    if (open.size > 0) setImmediate(turn);
  };
  turn();
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  if (pathname === "/") return response.end();
  const [connections, count, characters] = ["connections", "events", "characters"].map((name) => Number(searchParams.get(name)));
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.flushHeaders();
  const together = [...(waiting.get(request.url) ?? []), response];
  waiting.set(request.url, together);
  if (together.length < connections) return;
  waiting.delete(request.url);
  const text = "x".repeat(characters);
  if (pathname === "/turns") runTurns(together, count, text);
  else for (const each of together) runLoop(each, count, text);
});

server.listen(Number(process.env["PORT"]), "127.0.0.1");
process.on("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
});
