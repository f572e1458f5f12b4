// The built program as a user runs it: child processes with a directory of their own and no variables of ours.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROGRAM = join(fileURLToPath(new URL('../..', import.meta.url)), 'dist', 'cli', 'main.js');
if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is not built; run npm test, which builds it, or npm run build`);

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Record<string, string>;
  /** Another one than was built here. */
  readonly program?: string;
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly pid: number;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Settles when it has ended. */
  readonly finished: Promise<Finished>;
  signal(name: NodeJS.Signals): void;
}

export function start(args: readonly string[], { cwd, env = {}, program = PROGRAM }: RunOptions): Running {
  const others = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SPILLWAY_')));
  const child = spawn(process.execPath, [program, ...args], { cwd, env: { ...others, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const stdout = collect(child, 'stdout');
  const stderr = collect(child, 'stderr');
  const finished = new Promise<Finished>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout: stdout(), stderr: stderr() }));
  });
  return { pid: child.pid ?? -1, stdout, stderr, finished, signal: (name) => void child.kill(name) };
}

function collect(child: ChildProcess, name: 'stdout' | 'stderr'): () => string {
  const chunks: Buffer[] = [];
  child[name]?.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}

/** Runs a command to its end. */
export function spillway(args: readonly string[], options: RunOptions): Promise<Finished> {
  return start(args, options).finished;
}

/** The reply of a command that must succeed. */
export async function reply<T>(args: readonly string[], options: RunOptions): Promise<T> {
  const { code, stdout, stderr } = await spillway([...args, '--json'], options);
  if (code !== 0) throw new Error(`spillway ${args.join(' ')}: exit code ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** A zombie has ended: only its parent has not noticed yet. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, -1).charAt(0) !== 'Z';
  } catch {
    return false;
  }
}
