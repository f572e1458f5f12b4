// `spillway targets`: which processes each configured unit matches, and why; with --watch again and again.

import { ConfigError } from '#shared/runtime/config';
import { pause } from '#shared/runtime/wait';
import { explainTargets, type TargetExplanation, type TargetProcess } from '../services/collector/targets.ts';
import { print, printJson, say } from './output.ts';
import { commandConfig, type GlobalOptions } from './session.ts';
import { formatTable, left, right } from './table.ts';
import { formatTime } from './time.ts';

const WATCH_INTERVAL_MS = 1_000;
/** Home, and everything below. */
const CLEAR = '\x1b[H\x1b[2J';

export async function targets(options: GlobalOptions & { watch?: boolean }): Promise<void> {
  show(options, '');
  if (options.watch !== true) return;
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort());
  for (;;) {
    await pause(WATCH_INTERVAL_MS, stopping.signal);
    if (stopping.signal.aborted) return;
    try {
      show(options, process.stdout.isTTY ? CLEAR : '');
    } catch (error) {
      // Somebody is editing it: what it says next may be right.
      if (!(error instanceof ConfigError)) throw error;
      say(error.message);
    }
  }
}

function show(options: GlobalOptions, before: string): void {
  const explanations = explainTargets(commandConfig(options));
  if (options.json) printJson(explanations);
  else if (explanations.length === 0) say('No units are configured; name them under `units:` in spillway.yaml.');
  else print(before + formatTable(HEADINGS, explanations.flatMap(rowsOf)));
}

const HEADINGS = [left('UNIT'), left('STATE'), right('PID'), left('USER'), left('STARTED'), left('WHY'), left('COMMAND')];

function rowsOf({ unit, state, rule, reason, processes, others }: TargetExplanation): string[][] {
  const rows = processes.map((one, index) => (index === 0 ? cells(unit, state, one, rule) : cells('', '', one, one.why)));
  if (rows.length === 0) rows.push([unit, state, '-', '-', '-', `${rule}: ${reason ?? 'no process'}`, '']);
  return [...rows, ...others.map((one) => cells('', 'not', one, one.why))];
}

function cells(unit: string, state: string, one: TargetProcess, why: string): string[] {
  const reasons = one.problem === null ? why : `${why}; ${one.problem}`;
  return [unit, state, `${one.pid}`, one.user, formatTime(one.started), reasons, one.command.slice(0, 80)];
}
