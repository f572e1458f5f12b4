// `npm run chaos -- --faults N --seed S --minutes M [--control | --late-retries] [--keep]`: one round, and what came of it. Exit code 0
// when every accepted row was there once with its values, 1 when not, 2 when the command was wrong. With --control a naive spillover is
// put in the place of the real one, and 0 means that it was convicted.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Verdict } from './checker.ts';
import { type RoundReport, runRound } from './round.ts';

const BAR_WIDTH = 30;
const SHOW_INTERVAL_MS = 200;
/** Where nobody looks on, a line now and then. */
const LINE_INTERVAL_MS = 30_000;

interface Wanted {
  readonly faults: number;
  readonly seed: number;
  readonly minutesMax: number;
  readonly isControl: boolean;
  readonly hasLateRetries: boolean;
  readonly isKeptAnyway: boolean;
}

const wanted = readArguments();
const compiled = dirname(fileURLToPath(import.meta.url));
const stopping = new AbortController();
process.once('SIGINT', () => {
  process.stderr.write('\nStopping the faults; what was accepted is still judged. Once more ends at once.\n');
  stopping.abort();
  process.once('SIGINT', () => process.exit(130));
});
process.once('SIGTERM', () => process.exit(143));

const { faults, seed, minutesMax, isControl } = wanted;
process.stderr.write(`${faults} faults, at most ${minutesMax} minutes, seed ${seed}${isControl ? ', control: a naive spillover' : ''}\n`);
const report = await runRound({
  root: rootOf(compiled),
  compiled,
  natsServer: process.env['NATS_SERVER'] ?? 'nats-server',
  ...wanted,
  onProgress: progress(),
  stopping: stopping.signal,
}).catch((error: unknown) => {
  process.stderr.write(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
process.stdout.write(textOf(report, isControl));
process.exit(report.isClean !== isControl ? 0 : 1);

function readArguments(): Wanted {
  try {
    const { values } = parseArgs({
      options: {
        faults: { type: 'string', default: '200' },
        seed: { type: 'string', default: `${Math.floor(Math.random() * 2 ** 31)}` },
        minutes: { type: 'string', default: '10' },
        control: { type: 'boolean', default: false },
        'late-retries': { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
      },
    });
    return {
      faults: numberOf('faults', values.faults, 1, 100_000),
      seed: numberOf('seed', values.seed, 0, 2 ** 32 - 1),
      minutesMax: numberOf('minutes', values.minutes, 1, 24 * 60),
      isControl: values.control,
      hasLateRetries: values['late-retries'],
      isKeptAnyway: values.keep,
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(2);
  }
}

function numberOf(name: string, text: string, min: number, max: number): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= min && number <= max) return number;
  throw new RangeError(`--${name} ${text}: a whole number from ${min} to ${max} is wanted`);
}

/** The checkout: compiled or not, this file lies somewhere below the package's manifest. */
function rootOf(directory: string): string {
  return existsSync(join(directory, 'package.json')) ? directory : rootOf(dirname(directory));
}

function progress(): (phase: string, done: number, total: number) => void {
  const { isTTY } = process.stderr;
  let shownMs = Date.now();
  let now = { phase: '', sinceMs: 0, doneBefore: 0 };
  return (phase, done, total) => {
    const nowMs = Date.now();
    if (phase !== now.phase) now = { phase, sinceMs: nowMs, doneBefore: done };
    if (nowMs - shownMs < (isTTY ? SHOW_INTERVAL_MS : LINE_INTERVAL_MS)) return;
    shownMs = nowMs;
    const rate = (done - now.doneBefore) / (nowMs - now.sinceMs);
    const left = rate > 0 && total > done ? `, ${durationText((total - done) / rate)} left` : '';
    const text = `[${barOf(total === 0 ? 1 : done / total)}] ${phase} ${done}/${total}${left}`;
    process.stderr.write(isTTY ? `\r\x1b[K${text}` : `${text}\n`);
  };
}

function barOf(share: number): string {
  const filled = Math.round(Math.min(1, share) * BAR_WIDTH);
  return '#'.repeat(filled) + '.'.repeat(BAR_WIDTH - filled);
}

function durationText(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

function textOf(report: RoundReport, isControl: boolean): string {
  const kinds = [...report.faults].sort(([a], [b]) => (a < b ? -1 : 1));
  const total = kinds.reduce((sum, [, count]) => sum + count, 0);
  const lines = [
    `faults injected    ${total}`,
    ...kinds.map(([kind, count]) => `  ${kind.padEnd(28)} ${`${count}`.padStart(5)}`),
    ...[...report.skipped].map(([kind, reason]) => `  ${kind} left out: ${reason}`),
    `sent besides       ${report.duplicates} duplicates without id, ${report.retries} under their id, ${report.malformed} malformed messages; ${report.duplicateAcks} retries after a lost acknowledgement`,
    `exits by themselves ${report.unexpectedExits}`,
    `slowest recovery   ${report.slowestRecovery === null ? '-' : `${(report.slowestRecovery.ms / 1_000).toFixed(1)} s (${report.slowestRecovery.service})`}`,
    ...verdictLines(isControl ? 'window and files' : 'range', report.range),
    ...(report.files === null ? [] : verdictLines(`${report.filesRead.files} files`, report.files)),
    ...report.problems.map((problem) => `problem            ${problem}`),
    `seed               ${report.seed}, ${report.seconds.toFixed(0)} s`,
    ...(report.directory === null ? [] : [`logs and data      ${report.directory}`]),
    conclusion(report.isClean, isControl),
  ];
  return `${lines.join('\n')}\n`;
}

function verdictLines(what: string, verdict: Verdict): string[] {
  const { accepted, unknown, lost, doubled, repeated, wrong, unexpected } = verdict;
  return [
    `rows, ${what.padEnd(12)} ${accepted} accepted, ${lost} lost, ${doubled} doubled, ${wrong} wrong, ${unexpected} never sent${unknown === 0 ? '' : `, ${unknown} unknown`}`,
    ...(repeated === 0 ? [] : [`  ${repeated} repeated: acknowledgement lost, sent again after a restart of nats-server`]),
    ...verdict.examples.map((one) => `  ${one.kind}: ${one.host}/${one.unit} boot ${one.boot} tick ${one.tick}: ${one.detail}`),
  ];
}

function conclusion(isClean: boolean, isControl: boolean): string {
  if (isControl) return isClean ? 'NOT CONVICTED: the harness did not find what the naive spillover loses' : 'CONVICTED, as it should be';
  return isClean ? 'CLEAN: every accepted row exactly once' : 'VIOLATION';
}
