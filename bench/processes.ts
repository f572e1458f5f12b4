// Child processes of a benchmark: started with their output in a file, measured by their pid, ended by their pid, and ended with us
// when we are interrupted.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';

export interface Program {
  readonly pid: number;
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>;
  /** SIGTERM, SIGKILL when that does not end it in time. */
  terminate(): Promise<void>;
}

export interface ProgramOptions {
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Its output; it is thrown away when absent. */
  readonly logFile?: string;
}

const TERM_DEADLINE_MS = 5_000;

const alive = new Set<() => void>();
// Before anybody else's listener: what removes their directories must come after them.
process.prependListener('exit', () => {
  for (const end of alive) end();
});

/** Calls `end` when this process exits before the returned function was called. `end` must not wait for anything. */
export function endWithUs(end: () => void): () => void {
  alive.add(end);
  return () => void alive.delete(end);
}

export function startProgram(program: string, args: readonly string[], { cwd, env = process.env, logFile }: ProgramOptions): Program {
  const log = logFile === undefined ? 'ignore' : openSync(logFile, 'a');
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', log, log] });
  if (typeof log === 'number') closeSync(log);
  if (child.pid === undefined) throw new Error(`${program} could not be started`);
  const forget = endWithUs(() => child.kill('SIGKILL'));
  const ended = exitOf(child).finally(forget);
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  return {
    pid: child.pid,
    kill,
    terminate: async () => {
      child.kill('SIGTERM');
      const deadline = setTimeout(() => child.kill('SIGKILL'), TERM_DEADLINE_MS);
      await ended;
      clearTimeout(deadline);
    },
  };
}

/** Runs one of our own modules in a process of its own and returns the JSON it prints. @throws with what it said when it fails */
export async function jsonOf(nodeArgs: readonly string[], module: string, request: unknown): Promise<unknown> {
  const child = spawn(process.execPath, [...nodeArgs, module, JSON.stringify(request)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const forget = endWithUs(() => child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk));
  await exitOf(child);
  forget();
  if (child.exitCode !== 0) throw new Error(`${module} ended with ${child.exitCode ?? child.signalCode}: ${stderr.trim()}`);
  return JSON.parse(stdout);
}

function exitOf(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once('close', () => resolve());
    child.once('error', () => resolve());
  });
}

/** CPU of all threads that a process has now, user and system, ms. @throws when it has ended */
export function cpuMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const runNs = (thread: string): number => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0]);
  return threads.reduce((sum, thread) => sum + runNs(thread), 0) / 1e6;
}
