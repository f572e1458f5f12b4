// `spillway targets`: which processes each configured unit matches, and why.

import { explainTargets, type TargetExplanation } from '../services/collector/targets.ts';
import { print, printJson, say } from './output.ts';
import { commandConfig, type GlobalOptions } from './session.ts';
import { formatTable, left, right } from './table.ts';
import { formatTime } from './time.ts';

export function targets(options: GlobalOptions): void {
  const explanations = explainTargets(commandConfig(options));
  if (options.json) printJson(explanations);
  else if (explanations.length === 0) say('No units are configured; name them under `units:` in spillway.yaml.');
  else print(formatTable(HEADINGS, explanations.flatMap(rowsOf)));
}

const HEADINGS = [left('UNIT'), left('STATE'), right('PID'), left('USER'), left('STARTED'), left('WHY'), left('COMMAND')];

function rowsOf({ unit, state, rule, reason, processes }: TargetExplanation): string[][] {
  if (processes.length === 0) return [[unit, state, '-', '-', '-', `${rule}: ${reason ?? 'no process'}`, '']];
  return processes.map((one, index) => [
    index === 0 ? unit : '',
    index === 0 ? state : '',
    `${one.pid}`,
    one.user,
    formatTime(one.started),
    index === 0 ? rule : one.why,
    one.command.slice(0, 80),
  ]);
}
