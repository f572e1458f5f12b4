// pipeline: batches of 100 hosts with 100 units each, published as fast as JetStream acknowledges them, until as many rows have been
// synced in segments. The window is full before the clock starts, so every row that comes pushes one out. Then half of that rate,
// and how long it takes from publishing a sample until `latest` answers with it.
//
// The rival is given the same rows by the InfluxDB line protocol, a tick of all hosts in one request, which is the best for it. It
// accepts rows before they are on disk, and has no command that says when they are: its throughput is up to the flush that
// makes them visible.

import type { Batch } from '#shared/contract/batch';
import { type Bench, type BenchContext, sizesOf, type Task } from './bench.ts';
import { Installation, payloadsOf } from './installation.ts';
import { whileRunning, work } from './load.ts';
import { type Measured, measuredBy, percentile, SPILLWAY } from './measurements.ts';
import { cpuMs } from './processes.ts';
import { VICTORIA_METRICS } from './rivals.ts';
import { syntheticTrace, type Trace } from './trace.ts';
import { influxLinesOf, VictoriaMetrics } from './victoria-metrics.ts';

const SERIES = [10_000];
const SERIES_QUICK = [1_000];
const ROWS = 1_000_000;
const ROWS_QUICK = 100_000;
const RIVAL_LANES = 4;
const PROBE_HOST = 'probe';
const ANSWER_MS_MAX = 30_000;
const PAST_MS = 3_600_000;

export const pipelineBench: Bench = {
  name: 'pipeline',
  rivals: [VICTORIA_METRICS],
  rounds: 5,
  tasks: (context) =>
    sizesOf(context, SERIES, SERIES_QUICK).flatMap((series) => [
      { label: `${series} series`, run: () => ownRound(context, series) },
      ...(context.rivals.programOf(VICTORIA_METRICS) === null ? [] : [rivalTask(context, series)]),
    ]),
};

function rivalTask(context: BenchContext, series: number): Task {
  return { label: `${series} series, ${VICTORIA_METRICS}`, run: () => rivalRound(context, series) };
}

const rowsOf = ({ isQuick }: BenchContext): number => (isQuick ? ROWS_QUICK : ROWS);
const traceOfPast = (series: number): Trace => syntheticTrace({ series, startMs: Date.now() - PAST_MS });

async function ownRound(context: BenchContext, series: number): Promise<Measured[]> {
  const installation = await Installation.start(context.root);
  try {
    const pids = {
      nats: installation.nats.pid,
      store: installation.startService('store').pid,
      spillover: installation.startService('spillover').pid,
      publisher: process.pid,
    };
    await installation.ready();
    const trace = traceOfPast(series);
    await installation.fill(trace);
    const payloads = payloadsOf(trace.take(rowsOf(context)));
    const rows = payloads.reduce((sum, payload) => sum + payload.rows, 0);
    const before = await syncedRows(installation);
    const cpuBefore = Object.entries(pids).map(([name, pid]) => ({ name, pid, ms: cpuMs(pid) }));
    const startMs = performance.now();
    await installation.publish(payloads);
    const acceptedMs = performance.now() - startMs;
    await installation.settled();
    const syncedMs = performance.now() - startMs;
    const cpu = cpuBefore.map(({ name, pid, ms }) => ({ name, seconds: (cpuMs(pid) - ms) / 1_000 }));
    const rate = ((await syncedRows(installation)) - before) / (syncedMs / 1_000);
    const latencies = await ownLatencies(installation, trace.take(rows), rate / 2);
    const one = measuredBy(`${series} series`, SPILLWAY);
    return [
      one('throughput', 'rows/s', rate),
      one('accepted', 'rows/s', rows / (acceptedMs / 1_000)),
      ...latencyResults(one, latencies),
      one('cpu_per_million_rows', 'CPU s', perMillion(sumOf(cpu.filter(({ name }) => name !== 'publisher')), rows)),
      ...cpu.map(({ name, seconds }) => one(`cpu_per_million_rows_of_${name}`, 'CPU s', perMillion(seconds, rows))),
    ];
  } finally {
    await installation.end();
  }
}

async function syncedRows({ client }: Installation): Promise<number> {
  return (await client.spilloverInfo(0)).counters['rows'] ?? 0;
}

async function ownLatencies(installation: Installation, batches: readonly Batch[], rate: number): Promise<number[]> {
  const { client, link } = installation;
  let tick = 0;
  return whileRunning(installation.publish(payloadsOf(batches), rate), async () => {
    const [payload] = payloadsOf([probeBatch(tick++)]);
    if (payload === undefined) throw new Error('a batch of one unit has no payload');
    const startMs = performance.now();
    await link.js.publish(link.subjects.samples(0, PROBE_HOST), payload.bytes, { msgID: payload.id });
    await answered(startMs, async () => (await client.latest({ host: PROBE_HOST, unit: 'unit' }, 1))[0]?.threads === tick);
    return performance.now() - startMs;
  });
}

async function rivalRound(context: BenchContext, series: number): Promise<Measured[]> {
  const rival = await VictoriaMetrics.start(context.rivals);
  try {
    const trace = traceOfPast(series);
    const bodies = bodiesOf(trace, rowsOf(context));
    const rows = bodies.reduce((sum, body) => sum + body.rows, 0);
    const cpuBefore = cpuMs(rival.program.pid);
    const startMs = performance.now();
    await work(bodies, RIVAL_LANES, Number.POSITIVE_INFINITY, ({ lines }) => rival.write(lines));
    const acceptedMs = performance.now() - startMs;
    await rival.flush();
    const visibleMs = performance.now() - startMs;
    const cpuSeconds = (cpuMs(rival.program.pid) - cpuBefore) / 1_000;
    const rate = rows / (visibleMs / 1_000);
    const latencies = await rivalLatencies(rival, bodiesOf(trace, rowsOf(context)), rate / 2);
    const one = measuredBy(`${series} series`, VICTORIA_METRICS);
    return [
      one('throughput', 'rows/s', rate),
      one('accepted', 'rows/s', rows / (acceptedMs / 1_000)),
      ...latencyResults(one, latencies),
      one('cpu_per_million_rows', 'CPU s', perMillion(cpuSeconds, rows)),
    ];
  } finally {
    await rival.end();
  }
}

interface Body {
  readonly rows: number;
  readonly lines: string;
}

/** A tick of all hosts each. */
function bodiesOf(trace: Trace, rows: number): Body[] {
  const bodies: Body[] = [];
  for (let left = rows; left > 0; left -= trace.series)
    bodies.push({ rows: trace.series, lines: trace.take(1).map(influxLinesOf).join('') });
  return bodies;
}

function rivalLatencies(rival: VictoriaMetrics, bodies: readonly Body[], rate: number): Promise<number[]> {
  let tick = 0;
  return whileRunning(
    work(bodies, RIVAL_LANES, rate, ({ lines }) => rival.write(lines)),
    async () => {
      const startMs = performance.now();
      await rival.write(influxLinesOf(probeBatch(tick++)));
      await answered(startMs, async () => Number((await rival.query(`unit_threads{host="${PROBE_HOST}"}`))[0]?.value[1]) === tick);
      return performance.now() - startMs;
    },
  );
}

/** One unit whose `threads` say which probe it is, beginning with 1. */
function probeBatch(tick: number): Batch {
  const ts = Date.now();
  const head = { v: 1, host: PROBE_HOST, boot: 'probe', tick, ts, interval_ms: 1_000, late: false } as const;
  return { ...head, unit: ['unit'], state: ['running'], pid: [1], started: [ts], threads: [tick + 1] };
}

/** Asks again and again, without a pause. @throws when it takes too long */
async function answered(startMs: number, isAnswered: () => Promise<boolean>): Promise<void> {
  while (!(await isAnswered())) {
    if (performance.now() - startMs > ANSWER_MS_MAX) throw new Error(`a sample was not answered within ${ANSWER_MS_MAX} ms`);
  }
}

type One = ReturnType<typeof measuredBy>;

function latencyResults(one: One, latencies: readonly number[]): Measured[] {
  return [one('publish_to_latest_p50', 'ms', percentile(latencies, 50)), one('publish_to_latest_p99', 'ms', percentile(latencies, 99))];
}

function sumOf(cpu: readonly { readonly seconds: number }[]): number {
  return cpu.reduce((sum, { seconds }) => sum + seconds, 0);
}

function perMillion(seconds: number, rows: number): number {
  return (seconds / rows) * 1e6;
}
