import { readdirSync, readFileSync, existsSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

/** A source file and what it imports: repository paths for files of ours, package or built-in names for others. */
export interface Module {
  readonly path: string;
  readonly imports: readonly string[];
}

const STATIC_IMPORT = /^(?:import|export)\b[^;'"]*?\bfrom\s*["']([^"']+)["']|^import\s*["']([^"']+)["']/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*["']([^"']+)["']\s*\)/g;

/** Every import, type-only ones too: a cycle of types is a cycle for whoever reads. */
export function importsOf(source: string): string[] {
  const found: string[] = [];
  for (const pattern of [STATIC_IMPORT, DYNAMIC_IMPORT]) {
    for (const match of source.matchAll(pattern)) found.push(match[1] ?? match[2] ?? "");
  }
  return found;
}

export function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.(?:ts|tsx|js|mjs)$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !/(?:^|\/)(?:dist|node_modules)\//.test(path));
}

export function readModules(folders: readonly string[]): Module[] {
  return folders.flatMap(sourceFiles).map((path) => {
    const source = readFileSync(join(root, path), "utf8");
    return { path, imports: importsOf(source).map((specifier) => resolveImport(path, specifier)) };
  });
}

/** @throws where a relative import leads nowhere: a graph with a hole would pass every rule. */
function resolveImport(from: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  const path = join(dirname(from), specifier);
  if (!existsSync(join(root, path)) && !path.includes("/dist/")) throw new Error(`${from} imports ${specifier}, which is not there`);
  return path;
}

/** The modules of a cycle in order, or undefined. */
export function findCycle(modules: readonly Module[]): string[] | undefined {
  const byPath = new Map(modules.map((module) => [module.path, module]));
  const done = new Set<string>();
  const walk = (path: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path];
    if (done.has(path)) return undefined;
    for (const next of byPath.get(path)?.imports ?? []) {
      const cycle = byPath.has(next) ? walk(next, [...trail, path]) : undefined;
      if (cycle !== undefined) return cycle;
    }
    done.add(path);
    return undefined;
  };
  for (const module of modules) {
    const cycle = walk(module.path, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}
