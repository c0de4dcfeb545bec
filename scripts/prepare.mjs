// Makes a fresh clone ready: installs what package-lock.json names and builds, each only when it is missing or out of date.
// Runs before anything is installed, so it may use nothing but Node itself.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stamp = join(root, "node_modules", ".cambist-installed");

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
  if (result.status !== 0) {
    console.error(`cambist: '${command} ${args.join(" ")}' failed (${result.error?.message ?? `exit code ${result.status}`})`);
    process.exit(1);
  }
}

function requireSupportedNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if ((major === 20 && minor >= 19) || (major === 22 && minor >= 14) || major >= 24) return;
  console.error(`cambist: Node ${process.versions.node} is not supported; use 20.19 or later, 22.14 or later, or 24 and up.`);
  process.exit(1);
}

function install() {
  const wanted = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  console.error("cambist: installing dependencies (once) …");
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
  writeFileSync(stamp, wanted);
}

function newestChange(folder) {
  let newest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile() && !entry.name.endsWith(".test.ts"))
      newest = Math.max(newest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  }
  return newest;
}

function build() {
  const built = join(root, "packages", "server", "dist", ".built");
  const sources = ["protocol", "server"].map((name) => join(root, "packages", name, "src"));
  if (existsSync(built) && sources.every((folder) => newestChange(folder) <= statSync(built).mtimeMs)) return;
  console.error("cambist: building …");
  const started = new Date();
  run(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc"), "-b"]);
  writeFileSync(built, "");
  utimesSync(built, started, started); // a file that is saved during the build is newer
}

requireSupportedNode();
install();
build();
