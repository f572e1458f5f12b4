// `npm run bench -- [BENCH…] [options]`: runs the benchmarks round by round, prints their tables and writes bench/results.
// Exit code 0 when all of them ran, 1 when one failed, 2 when the command was wrong.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Bench, BenchContext } from './bench.ts';
import { collectorBench } from './collector.ts';
import { type Measured, resultsOf } from './measurements.ts';
import { outageBench } from './outage.ts';
import { pipelineBench } from './pipeline.ts';
import { clearProgress, showProgress } from './progress.ts';
import { queriesBench } from './queries.ts';
import { record } from './record.ts';
import { writeReport } from './report.ts';
import { restartBench } from './restart.ts';
import { describeRun, writeResults } from './results.ts';
import { Rivals } from './rivals.ts';
import { terminalTable } from './table.ts';
import { recordingOf } from './trace.ts';
import { windowBench } from './window.ts';

const BENCHES: readonly Bench[] = [windowBench, pipelineBench, collectorBench, restartBench, queriesBench, outageBench];
const ROUNDS_QUICK = 2;

const HELP = `npm run bench -- [${BENCHES.map(({ name }) => name).join(' | ')} ...] [options]

  --rounds N      rounds of each benchmark (each has its own default)
  --quick         small work, few sizes, ${ROUNDS_QUICK} rounds: to see that it runs; the numbers mean little
  --size N        only this size: series, processes, or seconds without NATS
  --with-rivals   first fetches the rivals that are absent from Debian's packages (into .spillway/bench/rivals)
  --out DIR       where the results go (bench/results)
  --report        runs nothing: writes the tables and the plot of docs/performance.md from the results
  --before DIR    with --report: results of an earlier run, to say what got worse
  --record N      runs nothing: records the processes of this machine for N seconds as the recorded trace
`;

interface Wanted {
  readonly benches: readonly Bench[];
  readonly rounds: number | null;
  readonly size: number | null;
  readonly recordSeconds: number | null;
  readonly isQuick: boolean;
  readonly hasRivalsFetched: boolean;
  readonly isReport: boolean;
  readonly out: string | null;
  readonly before: string | null;
}

const root = join(import.meta.dirname, '..', '..');
const wanted = readArguments();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130)); // what was started ends with us
process.exit(await run(wanted));

async function run({ benches, isQuick, size, rounds, recordSeconds, isReport, hasRivalsFetched, out, before }: Wanted): Promise<number> {
  const results = out ?? join(root, 'bench', 'results');
  try {
    if (recordSeconds !== null) {
      const recorded = await record(root, recordingOf(root), recordSeconds);
      process.stdout.write(`${recorded.batches} batches of ${recorded.units} units are in ${recordingOf(root)}\n`);
      return 0;
    }
    if (isReport) {
      for (const path of writeReport(root, results, BENCHES, before)) process.stdout.write(`${path}\n`);
      return 0;
    }
    const rivals = new Rivals(root);
    if (hasRivalsFetched) rivals.unpackAbsent();
    const context: BenchContext = { root, rivals, isQuick, size };
    for (const bench of benches) await runBench(bench, context, rounds ?? (isQuick ? ROUNDS_QUICK : bench.rounds), results);
    return 0;
  } catch (error) {
    clearProgress();
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

async function runBench(bench: Bench, context: BenchContext, rounds: number, directory: string): Promise<void> {
  const tasks = bench.tasks(context);
  const measured: Measured[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const [place, task] of tasks.entries()) {
      showProgress(`${bench.name}: ${task.label}`, round * tasks.length + place, rounds * tasks.length);
      measured.push(...(await task.run()));
    }
  }
  clearProgress();
  const results = resultsOf(bench.name, measured);
  const absent = context.rivals.absent(bench.rivals);
  writeResults(directory, bench.name, results, describeRun(rounds, context.isQuick, absent));
  process.stdout.write(
    `${bench.name}, ${rounds} ${rounds === 1 ? 'round' : 'rounds'}${context.isQuick ? ', quick: these numbers mean little' : ''}\n\n`,
  );
  process.stdout.write(`${terminalTable(results)}\n`);
  if (absent.length > 0) process.stdout.write(`absent: ${absent.join(', ')} (--with-rivals fetches them)\n\n`);
}

function readArguments(): Wanted {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        rounds: { type: 'string' },
        size: { type: 'string' },
        record: { type: 'string' },
        out: { type: 'string' },
        before: { type: 'string' },
        quick: { type: 'boolean', default: false },
        'with-rivals': { type: 'boolean', default: false },
        report: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    return {
      benches: positionals.length === 0 ? BENCHES : positionals.map(benchNamed),
      rounds: numberOf('rounds', values.rounds, 1_000),
      size: numberOf('size', values.size, 1_000_000),
      recordSeconds: numberOf('record', values.record, 3_600),
      isQuick: values.quick,
      hasRivalsFetched: values['with-rivals'],
      isReport: values.report,
      out: values.out ?? null,
      before: values.before ?? null,
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`);
    process.exit(2);
  }
}

function benchNamed(name: string): Bench {
  const bench = BENCHES.find((one) => one.name === name);
  if (bench === undefined) throw new RangeError(`${name}: there is no such benchmark`);
  return bench;
}

/** Null when it is not given. */
function numberOf(name: string, text: string | undefined, max: number): number | null {
  if (text === undefined) return null;
  const number = Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= max) return number;
  throw new RangeError(`--${name} ${text}: a whole number from 1 to ${max} is wanted`);
}
