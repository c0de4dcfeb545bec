// The least that an HTTP server can do with a form: read it, parse it, answer a little JSON. Its CPU time per request is the unit in
// which the exchange is measured, so that figures of two machines can be compared. Plain Node, so that nothing but Node is measured.
import { createServer } from "node:http";

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const form = new URLSearchParams(Buffer.concat(chunks).toString("latin1"));
    const body = JSON.stringify({ grant_type: form.get("grant_type"), subject_token_characters: form.get("subject_token")?.length ?? 0 });
    response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store", "content-length": Buffer.byteLength(body) });
    response.end(body);
  });
});

server.listen(Number(process.env["PORT"]), "127.0.0.1");
process.on("SIGTERM", () => {
  server.close();
  server.closeAllConnections();
});
