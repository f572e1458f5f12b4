// `npm run fuzz -- --messages N --seed S`: one round, and what came of it. Exit code 0 when every good row was there once and every bad
// message was refused for its reason, 1 when not, 2 when the command was wrong.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Verdict } from '../chaos/checker.ts';
import type { MemoryReport } from './memory-watch.ts';
import { type FuzzReport, type Refusals, runFuzz } from './round.ts';

const SHOW_INTERVAL_MS = 200;

const { messages, seed } = readArguments();
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)
  process.once(signal, () => process.exit(code));
process.stderr.write(`${messages} messages, seed ${seed}\n`);
const report = await runFuzz({
  root: rootOf(dirname(fileURLToPath(import.meta.url))),
  natsServer: process.env['NATS_SERVER'] ?? 'nats-server',
  messages,
  seed,
  onProgress: progress(),
});
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
process.stdout.write(textOf(report));
process.exit(report.isClean ? 0 : 1);

function readArguments(): { messages: number; seed: number } {
  try {
    const { values } = parseArgs({
      options: {
        messages: { type: 'string', default: '100000' },
        seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 31)}` },
      },
    });
    return { messages: numberOf('messages', values.messages, 1e9), seed: numberOf('seed', values.seed, 2 ** 31 - 1) };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(2);
  }
}

function numberOf(name: string, text: string, max: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(number <= max)) throw new Error(`--${name} ${text}: must be a whole number from 0 to ${max}`);
  return number;
}

/** Sources and compiled harness lie at different depths below the program. */
function rootOf(folder: string): string {
  for (let at = folder; at !== dirname(at); at = dirname(at)) if (existsSync(join(at, 'package.json'))) return at;
  throw new Error(`no package.json above ${folder}`);
}

function progress(): (phase: string, done: number, total: number) => void {
  let shownMs = 0;
  return (phase, done, total) => {
    if (!process.stderr.isTTY || Date.now() - shownMs < SHOW_INTERVAL_MS) return;
    shownMs = Date.now();
    process.stderr.write(`\r\x1b[K${phase} ${done} of ${total}`);
  };
}

function textOf(result: FuzzReport): string {
  const lines = [
    `good batches       ${result.goodBatches}`,
    `queries            ${result.queries}`,
    ...refusalLines('store', result.store),
    ...refusalLines('spillover', result.spillover),
    ...[...result.memory].map(([name, memory]) => memoryLine(name, memory)),
    verdictLine('range', result.range),
    verdictLine('files', result.files),
    ...[...result.range.examples, ...result.files.examples].map(
      (one) => `  ${one.kind}: ${one.host}/${one.unit} tick ${one.tick}: ${one.detail}`,
    ),
    ...result.problems.map((problem) => `problem            ${problem}`),
    `seed               ${result.seed}, ${result.seconds.toFixed(0)} s`,
    ...(result.directory === null ? [] : [`logs and data      ${result.directory}`]),
    result.isClean ? 'CLEAN: every good row once, every bad message refused for its reason' : 'VIOLATION',
  ];
  return `${lines.join('\n')}\n`;
}

function refusalLines(service: string, { sent, counted, published }: Refusals): string[] {
  const reasons = [...new Set([...sent.keys(), ...counted.keys(), ...published.keys()])].sort();
  return [
    `refused by ${service.padEnd(9)}    sent counted published`,
    ...reasons.map(
      (reason) => `  ${reason.padEnd(16)} ${[sent, counted, published].map((one) => `${one.get(reason) ?? 0}`.padStart(7)).join(' ')}`,
    ),
  ];
}

function memoryLine(name: string, { earlyMax, lateMax, slopePerMinute }: MemoryReport): string {
  const mib = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1);
  return `memory ${name.padEnd(11)} ${mib(earlyMax)} MiB at most in the first half, ${mib(lateMax)} in the second, slope ${mib(slopePerMinute)} MiB/min`;
}

function verdictLine(what: string, { accepted, lost, doubled, wrong, unexpected }: Verdict): string {
  return `rows, ${what.padEnd(12)} ${accepted} accepted, ${lost} lost, ${doubled} doubled, ${wrong} wrong, ${unexpected} never sent`;
}
