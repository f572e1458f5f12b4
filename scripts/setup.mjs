// Brings a clone to the state in which it can run: dependencies installed, program built. Does only what is not done yet.
// Plain JavaScript without dependencies, because it runs before there are any.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

const MANIFEST = join(ROOT, 'package.json');
const LOCK = join(ROOT, 'package-lock.json');
const INSTALLED_STAMP = join(ROOT, 'node_modules', '.spillway-installed');
const BUILT_STAMP = join(ROOT, 'dist', '.spillway-built');
const SOURCES = ['libs', 'services', 'client', 'cli', 'tsconfig.json', 'tsconfig.build.json', 'rolldown.config.mjs', 'package.json'];

/** Installs and builds where needed; ends the process with a sentence when that fails. */
export function setUp() {
  checkNode();
  installDependencies();
  build();
}

/** Path of a nats-server; it is installed where that is possible. Needs a built program, which knows how. */
export async function findNatsServer() {
  const { findNatsProgram } = await import(pathToFileURL(join(ROOT, 'dist', 'cli', 'up', 'nats-program.js')).href);
  try {
    return await findNatsProgram(process.env);
  } catch (error) {
    return fail(error.message);
  }
}

function checkNode() {
  const wanted = JSON.parse(readFileSync(MANIFEST, 'utf8')).engines.node;
  const [major, minor] = /(\d+)\.(\d+)/.exec(wanted).slice(1).map(Number);
  const [ownMajor, ownMinor] = process.versions.node.split('.').map(Number);
  if (ownMajor > major || (ownMajor === major && ownMinor >= minor)) return;
  fail(`Spillway needs Node ${wanted}, this is ${process.versions.node}. Install a newer one and try again.`);
}

function installDependencies() {
  const lock = createHash('sha256').update(readFileSync(LOCK)).digest('hex');
  if (existsSync(INSTALLED_STAMP) ? readFileSync(INSTALLED_STAMP, 'utf8') === lock : isInstalledByHand()) return;
  say('Installing dependencies (npm ci)…');
  run('npm ci', npmProgram(), ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']);
  writeFileSync(INSTALLED_STAMP, lock);
}

/** `npm ci` by hand leaves no stamp of ours, but a list of its own that is newer than the lock file. */
function isInstalledByHand() {
  const list = join(ROOT, 'node_modules', '.package-lock.json');
  return existsSync(list) && existsSync(join(ROOT, 'node_modules', 'typescript')) && statSync(list).mtimeMs >= statSync(LOCK).mtimeMs;
}

/** The npm that runs us, else the one in the path. */
function npmProgram() {
  const path = process.env.npm_execpath;
  return path?.endsWith('.js') ? [process.execPath, path] : ['npm'];
}

function build() {
  if (existsSync(BUILT_STAMP) && newest(SOURCES.map((path) => join(ROOT, path))) <= statSync(BUILT_STAMP).mtimeMs) return;
  say('Building…');
  run('npm run build', npmProgram(), ['run', '--silent', 'build']);
  writeFileSync(BUILT_STAMP, '');
}

/** Newest change among files and directories; a directory changes when a file is removed from it. */
function newest(paths) {
  let latest = 0;
  for (const path of paths) {
    const status = statSync(path, { throwIfNoEntry: false });
    if (status === undefined) continue;
    latest = Math.max(latest, status.mtimeMs);
    if (status.isDirectory()) latest = Math.max(latest, newest(readdirSync(path).map((name) => join(path, name))));
  }
  return latest;
}

function run(name, [program, ...first], args) {
  // Our standard output belongs to the program that is started afterwards.
  const result = spawnSync(program, [...first, ...args], { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (result.error !== undefined) fail(`${name} could not be started: ${result.error.message}`);
  if (result.status !== 0) fail(`${name} failed; what it said is above`);
}

function say(sentence) {
  process.stderr.write(`${sentence}\n`);
}

function fail(sentence) {
  say(sentence);
  process.exit(1);
}
