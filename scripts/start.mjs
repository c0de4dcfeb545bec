// `npm start`: a sandbox, also as the first command after a clone.
await import("./prepare.mjs");
process.argv.splice(2, process.argv.length, "sandbox");
await import("../packages/server/dist/cli/main.js");
