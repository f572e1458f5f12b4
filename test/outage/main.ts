// `npm run outage -- --seconds N --hosts N --units N`: nats-server killed for N seconds under load, and what came of it as a table. Exit
// code 0 when every limit was kept, 1 when not, 2 when the command was wrong. Linux only: memory is read from /proc.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AGE_MS_MAX, GROWTH_BYTES_MAX, type HostReport, type OutageOptions, type OutageReport, runOutage } from './outage.ts';

const MIB = 1024 * 1024;
const COLUMNS: readonly (readonly [string, (host: HostReport) => string])[] = [
  ['host', ({ host }) => host],
  ['rows', ({ rows }) => `${rows}`],
  ['lost', ({ lostRows }) => `${lostRows}`],
  ['doubled', ({ doubledRows }) => `${doubledRows}`],
  ['late', ({ lateBatches }) => `${lateBatches}`],
  ['overtaken', ({ overtaken }) => `${overtaken}`],
  ['first row ms', ({ firstMs }) => firstMs.toFixed(0)],
  ['newest row ms', ({ ageMs }) => ageMs.toFixed(0)],
  ['drained s', ({ drainedMs }) => (drainedMs / 1_000).toFixed(1)],
  ['spool MiB', ({ spoolBytes }) => (spoolBytes / MIB).toFixed(1)],
  ['RSS MiB', ({ rssBytesBefore, rssBytesMost }) => `${(rssBytesBefore / MIB).toFixed(0)} > ${(rssBytesMost / MIB).toFixed(0)}`],
];

const wanted = readArguments();
process.once('SIGTERM', () => process.exit(143));
process.once('SIGINT', () => process.exit(130));
process.stderr.write(`${wanted.hosts} collectors of ${wanted.units} units, ${wanted.seconds} s without NATS\n`);
const report = await runOutage({ root: rootOf(dirname(fileURLToPath(import.meta.url))), ...wanted });
process.stdout.write(textOf(report));
process.exit(report.problems.length === 0 ? 0 : 1);

function readArguments(): Omit<OutageOptions, 'root'> {
  try {
    const { values } = parseArgs({
      options: {
        seconds: { type: 'string', default: '60' },
        hosts: { type: 'string', default: '4' },
        units: { type: 'string', default: '1000' },
      },
    });
    return {
      seconds: numberOf('seconds', values.seconds, 5, 3_600),
      hosts: numberOf('hosts', values.hosts, 1, 64),
      units: numberOf('units', values.units, 1, 5_000),
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

function textOf({ hosts, problems, directory }: OutageReport): string {
  const rows = [COLUMNS.map(([title]) => title), ...hosts.map((host) => COLUMNS.map(([, text]) => text(host)))];
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((text, column) => text.padStart(widths[column] ?? 0)).join('  '));
  return `${[
    ...lines,
    `late: batches sent afterwards; overtaken: of them, those that were sent after a fresh one; first row: from the server's return`,
    `limits: 0 lost, 0 doubled, newest row ${AGE_MS_MAX} ms old at most 2 s after the server's return, RSS growth ${GROWTH_BYTES_MAX / MIB} MiB`,
    ...problems.map((problem) => `problem: ${problem}`),
    ...(directory === null ? [] : [`logs and data: ${directory}`]),
    problems.length === 0 ? 'KEPT: every limit' : 'BROKEN',
  ].join('\n')}\n`;
}
