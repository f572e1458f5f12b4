// A short round of `npm run chaos` with fixed seeds: the real processes, a hundred faults, every accepted row exactly once; and the
// control, which must be convicted. What the rounds say is printed; the logs and data of one that fails are kept, and it says where.

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

const HARNESS = fileURLToPath(new URL('../../scripts/harness.mjs', import.meta.url));
const SEED = '46'; // every kind of fault is among its first hundred
/** The faults, then as long again for settling and judging on a machine that is busy. */
const ROUND_MS_MAX = 15 * 60_000;

let running: ChildProcess | null = null;
afterEach(async () => {
  // Only when a test was given up: the harness ends its processes.
  if (running?.exitCode === null) {
    running.kill('SIGTERM');
    await new Promise((resolve) => running?.once('exit', resolve));
  }
});

interface Round {
  readonly code: number | null;
  /** What it said in the end. */
  readonly summary: string;
}

async function chaos(...args: string[]): Promise<Round> {
  const child = spawn(process.execPath, [HARNESS, 'chaos', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  running = child;
  let summary = '';
  child.stdout.on('data', (chunk: Buffer) => {
    summary += chunk.toString('utf8');
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  process.stdout.write(`\nnpm run chaos -- ${args.join(' ')}\n${summary}`);
  return { code, summary };
}

const numberIn = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);

test('whatever fails, every accepted row is read exactly once with its values', { timeout: ROUND_MS_MAX }, async () => {
  const { code, summary } = await chaos('--faults', '100', '--minutes', '5', '--seed', SEED);
  expect(summary).toContain('CLEAN');
  expect(code).toBe(0);
  // However slow the machine: a round in which nothing happened proves nothing.
  expect(numberIn(summary, /faults injected +(\d+)/)).toBeGreaterThan(20);
  expect(numberIn(summary, /rows, range +(\d+) accepted/)).toBeGreaterThan(1_000);
});

// What it loses depends on the moments at which it is killed, and a dozen kills may miss them.
test('a naive spillover is convicted', { timeout: ROUND_MS_MAX, retry: 2 }, async () => {
  const { code, summary } = await chaos('--control', '--faults', '12', '--minutes', '3', '--seed', SEED);
  expect(summary).toContain('CONVICTED, as it should be');
  expect(code).toBe(0);
  expect(numberIn(summary, /accepted, (\d+) lost/)).toBeGreaterThan(0);
});
