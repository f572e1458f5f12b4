// Processes for tests that look at real ones, each ended by its own pid when the test is over.

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

const started: ChildProcess[] = [];

export function startProcess(
  command: string,
  args: string[],
  options: { env?: NodeJS.ProcessEnv; argv0?: string } = {},
): ChildProcess & { pid: number } {
  // A process group of its own, so that what it starts can be ended with it.
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true, ...options });
  if (child.pid === undefined) throw new Error(`${command} could not be started`);
  started.push(child);
  return child as ChildProcess & { pid: number };
}

/** First line it prints. */
export function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (chunk) => {
      text += chunk;
      if (text.includes('\n')) resolve(text.split('\n')[0] ?? '');
    });
    child.once('exit', () => reject(new Error(`ended after printing ${JSON.stringify(text)}`)));
  });
}

export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

/**
 * A process with a certain id, by asking the kernel to give that one out next. Others fork, too, so it may take several attempts.
 * Null where the kernel does not let us ask.
 */
export async function startProcessAs(pid: number): Promise<ChildProcess | null> {
  const cursor = '/proc/sys/kernel/ns_last_pid';
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      writeFileSync(cursor, String(pid - 1));
    } catch {
      return null;
    }
    const child = startProcess('sleep', ['1000']);
    if (child.pid === pid) return child;
    await endProcess(child);
  }
  throw new Error(`process ${pid} could not be had in 100 attempts`);
}

/** For afterEach. */
export async function endProcesses(): Promise<void> {
  for (const child of started.splice(0)) {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // Its group has ended already.
    }
    await endProcess(child);
  }
}

/** Uses CPU for ever, in a process of its own. */
export const BUSY = 'for (;;) Math.random();';

/** utime + stime of one process in ms, read in the slowest and plainest way. */
export function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10; // CLK_TCK is 100 on every Linux that Node runs on
}
