// `npm start`: a sandbox, also as the first command after a clone.
await import("./prepare.mjs");
process.argv.splice(2, process.argv.length, "sandbox");

// npm and its shell do not pass SIGTERM on: when they are gone, this process would go on alone
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, "SIGTERM");
}, 500).unref();

await import("../packages/server/dist/cli/main.js");
