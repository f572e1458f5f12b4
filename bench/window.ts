// window: the engine alone at a full budget of 10 MiB. Time per sample in the steady state, bytes per sample really held, and
// the span that the poorest and the richest series keep. Beside it, the bytes that VictoriaMetrics has on disk for the same rows.

import { join } from 'node:path';
import { type Bench, type BenchContext, sizesOf, type Task } from './bench.ts';
import { measuredBy, SPILLWAY } from './measurements.ts';
import { jsonOf } from './processes.ts';
import { VICTORIA_METRICS } from './rivals.ts';
import { recordingOf, type TraceName, traceOf } from './trace.ts';
import { influxLinesOf, VictoriaMetrics } from './victoria-metrics.ts';
import type { WindowReport, WindowRequest } from './window-process.ts';

const BUDGET_BYTES = 10 * 1024 * 1024;
const SIZES = [10, 100, 1_000, 10_000, 100_000];
const SIZES_QUICK = [10, 1_000];
const ROWS = 1_000_000;
const ROWS_QUICK = 100_000;
const TRACES: readonly TraceName[] = ['recorded', 'synthetic'];
/** Beyond this many series the rival needs minutes to take enough rows to be judged by. */
const RIVAL_SERIES_MAX = 10_000;
const RIVAL_BODY_ROWS = 10_000;

export const windowBench: Bench = {
  name: 'window',
  rivals: [VICTORIA_METRICS],
  rounds: 5,
  tasks: (context) =>
    sizesOf(context, SIZES, SIZES_QUICK).flatMap((series) =>
      TRACES.flatMap((trace) => [
        ownTask(context, trace, series),
        ...(context.rivals.programOf(VICTORIA_METRICS) === null || series > RIVAL_SERIES_MAX ? [] : [rivalTask(context, trace, series)]),
      ]),
    ),
};

/** Enough for several ticks of every series. */
function rowsOf({ isQuick }: BenchContext, series: number): number {
  return Math.max(isQuick ? ROWS_QUICK : ROWS, 4 * series);
}

export function caseOf(trace: TraceName, series: number): string {
  return `${series} series, ${trace}`;
}

function ownTask(context: BenchContext, trace: TraceName, series: number): Task {
  const name = caseOf(trace, series);
  return {
    label: name,
    run: async () => {
      const request: WindowRequest = {
        trace,
        recording: recordingOf(context.root),
        series,
        budgetBytes: BUDGET_BYTES,
        rows: rowsOf(context, series),
      };
      const module = join(import.meta.dirname, 'window-process.js');
      const report = (await jsonOf(['--expose-gc'], module, request)) as WindowReport;
      const one = measuredBy(name, SPILLWAY);
      return [
        one('ingest_and_evict_per_sample', 'ns', report.ingestNs),
        one('encode_per_evicted_sample', 'ns', report.encodeNs),
        one('bytes_per_sample', 'B', report.heldBytes / report.rows),
        one('bytes_per_sample_reported', 'B', report.reportedBytes / report.rows),
        one('samples_held', 'rows', report.rows),
        one('span_of_poorest', 's', report.spanMsMin / 1_000),
        one('span_of_richest', 's', report.spanMsMax / 1_000),
        one('summary', 'us', report.summaryUs),
        one('latest', 'us', report.latestUs),
      ];
    },
  };
}

function rivalTask(context: BenchContext, trace: TraceName, series: number): Task {
  const name = caseOf(trace, series);
  return {
    label: `${name}, ${VICTORIA_METRICS}`,
    run: async () => {
      const rival = await VictoriaMetrics.start(context.rivals);
      try {
        const rows = rowsOf(context, series);
        const startMs = Date.now() - (rows / series) * 1_000 - 60_000;
        const source = traceOf(trace, { series, startMs }, recordingOf(context.root));
        let sent = 0;
        while (sent < rows) {
          const batches = source.take(Math.min(RIVAL_BODY_ROWS, rows - sent));
          await rival.write(batches.map(influxLinesOf).join(''));
          for (const batch of batches) sent += batch.unit.length;
        }
        const value = (await rival.mergedBytes()) / sent;
        return [{ case: name, contender: `${VICTORIA_METRICS} on disk`, metric: 'bytes_per_sample', unit: 'B', value }];
      } finally {
        await rival.end();
      }
    },
  };
}
