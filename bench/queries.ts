// queries: a full window, a load of rows beside it, and one question after the other from one client, over NATS. The rival is given
// the same rows and the same load; its `summary` is the average alone of every metric, where Spillway's has five numbers of each.

import { type Bench, type BenchContext, sizesOf } from './bench.ts';
import { Installation, type Payload, payloadsOf } from './installation.ts';
import { whileRunning, work } from './load.ts';
import { type Measured, measuredBy, percentile, SPILLWAY } from './measurements.ts';
import { VICTORIA_METRICS } from './rivals.ts';
import { syntheticTrace, type Trace } from './trace.ts';
import { influxLinesOf, VictoriaMetrics } from './victoria-metrics.ts';

const SERIES = [1_000, 10_000];
const SERIES_QUICK = [1_000];
/** Of the load, rows. */
const RATE_PER_SECOND = 50_000;
const LOAD_SECONDS = 10;
const LOAD_SECONDS_QUICK = 1;
/** About as many as a default window holds. */
const RIVAL_ROWS = 1_000_000;
const RIVAL_LANES = 4;
const PAST_MS = 7_200_000;
const LATEST_ROWS = 10;
const POINTS = 100;

/** A question about one series; its place is where to begin. */
type Ask = (series: { readonly host: string; readonly unit: string }) => Promise<unknown>;

export const queriesBench: Bench = {
  name: 'queries',
  rivals: [VICTORIA_METRICS],
  rounds: 3,
  tasks: (context) =>
    sizesOf(context, SERIES, SERIES_QUICK).flatMap((series) => [
      { label: `${series} series`, run: () => ownRound(context, series) },
      ...(context.rivals.programOf(VICTORIA_METRICS) === null
        ? []
        : [{ label: `${series} series, ${VICTORIA_METRICS}`, run: () => rivalRound(context, series) }]),
    ]),
};

const loadRows = ({ isQuick }: BenchContext): number => RATE_PER_SECOND * (isQuick ? LOAD_SECONDS_QUICK : LOAD_SECONDS);

async function ownRound(context: BenchContext, series: number): Promise<Measured[]> {
  const installation = await Installation.start(context.root);
  try {
    installation.startService('store');
    installation.startService('spillover');
    await installation.ready();
    const startMs = Date.now() - PAST_MS;
    const trace = syntheticTrace({ series, startMs });
    const { client } = installation;
    await installation.fill(trace);
    const asked: Record<string, Ask> = {
      summary: (one) => client.summary(one),
      latest: (one) => client.latest(one, LATEST_ROWS),
      points_of_window_and_spill: (one) => client.rangePoints({ ...one, fromMs: startMs, toMs: Date.now() }, POINTS),
    };
    const measured: Measured[] = [];
    for (const [name, ask] of Object.entries(asked)) {
      const load = (payloads: Payload[]) => installation.publish(payloads, RATE_PER_SECOND);
      const times = await timesUnder(load(payloadsOf(trace.take(loadRows(context)))), series, ask);
      measured.push(...percentilesOf(series, SPILLWAY, name, times));
    }
    return measured;
  } finally {
    await installation.end();
  }
}

async function rivalRound(context: BenchContext, series: number): Promise<Measured[]> {
  const rival = await VictoriaMetrics.start(context.rivals);
  try {
    const trace = syntheticTrace({ series, startMs: Date.now() - PAST_MS });
    const write = ({ lines }: Body) => rival.write(lines);
    await work(bodiesOf(trace, context.isQuick ? loadRows(context) : RIVAL_ROWS), RIVAL_LANES, Number.POSITIVE_INFINITY, write);
    await rival.flush();
    const load = work(bodiesOf(trace, loadRows(context)), RIVAL_LANES, RATE_PER_SECOND, write);
    const times = await timesUnder(load, series, async ({ host, unit }) => {
      const found = await rival.query(`avg_over_time({host="${host}",name="${unit}"}[3h])`);
      if (found.length === 0) throw new Error(`${VICTORIA_METRICS} knows nothing of ${host}/${unit}`);
    });
    return percentilesOf(series, VICTORIA_METRICS, 'summary', times);
  } finally {
    await rival.end();
  }
}

interface Body {
  readonly rows: number;
  readonly lines: string;
}

function bodiesOf(trace: Trace, rows: number): Body[] {
  return trace.take(rows).map((batch) => ({ rows: batch.unit.length, lines: influxLinesOf(batch) }));
}

/** Of each question, ms. */
async function timesUnder(load: Promise<void>, series: number, ask: Ask): Promise<number[]> {
  let asked = 0;
  return whileRunning(load, async () => {
    const one = (asked++ * 7_919) % series; // a prime: all parts of the window, in no order
    const startMs = performance.now();
    await ask({ host: `host-${Math.floor(one / 100)}`, unit: `service-${one % 100}` });
    return performance.now() - startMs;
  });
}

function percentilesOf(series: number, contender: string, query: string, times: readonly number[]): Measured[] {
  const one = measuredBy(`${series} series, ${RATE_PER_SECOND} rows/s`, contender);
  return [one(`${query}_p50`, 'ms', percentile(times, 50)), one(`${query}_p99`, 'ms', percentile(times, 99))];
}
