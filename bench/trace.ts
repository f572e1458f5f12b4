// What is fed into the benchmarks: batches of as many series as wanted, 100 units a host, a tick a second, for ever.
//
//   synthetic  CPU a random walk in hundredths; RSS changes by pages in 30 % of the samples; a quarter of the units has four
//              counters that grow in every sample, the others have read and written nothing and share the host's network
//   recorded   real processes, recorded by our own collector on a busy machine (`--record`); a series is one of them, begun at another
//              moment, and at the end of the recording it starts again, with its counters going on where they were

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Batch } from '#shared/contract/batch';
import { METRICS, type MetricName, STATES, type State } from '#shared/contract/metrics';
import { Random } from '../test/chaos/random.ts';

export type TraceName = 'recorded' | 'synthetic';

export interface Trace {
  readonly series: number;
  /** The next ticks of all hosts, whole ones, `rows` rows or somewhat more. */
  take(rows: number): Batch[];
}

export interface TraceOptions {
  readonly series: number;
  /** Of the first tick, ms. */
  readonly startMs?: number;
  readonly seed?: number;
}

const UNITS_PER_HOST = 100;
const INTERVAL_MS = 1_000;
const EPOCH_MS = 1_763_678_400_000;
const PAGE_BYTES = 4_096;
const THREADS = 12;
/** A prime, so that all units are taken before one is taken again. */
const SPREAD = 7_919;

type Values = { readonly [name in MetricName]: number | null };
interface Reading extends Values {
  readonly state: State;
  readonly pid: number | null;
  readonly started: number | null;
}

/** What one series measures from tick to tick. */
type Source = () => Reading;

/** @param recording path of a file that `--record` has written */
export function traceOf(name: TraceName, options: TraceOptions, recording: string): Trace {
  return name === 'synthetic' ? syntheticTrace(options) : recordedTrace(options, recording);
}

export function syntheticTrace(options: TraceOptions): Trace {
  const random = new Random(options.seed ?? 1);
  return new SeriesTrace(options, (series) => syntheticSource(series, random));
}

function recordedTrace(options: TraceOptions, recording: string): Trace {
  const recorded = readRecording(recording);
  return new SeriesTrace(options, (series) => recordedSource(recorded, series));
}

class SeriesTrace implements Trace {
  readonly series: number;
  private readonly hosts: readonly { readonly name: string; readonly units: readonly string[]; readonly sources: readonly Source[] }[];
  private readonly startMs: number;
  private ticks = 0;

  constructor({ series, startMs = EPOCH_MS }: TraceOptions, sourceOf: (series: number) => Source) {
    this.series = series;
    this.startMs = startMs;
    this.hosts = Array.from({ length: Math.ceil(series / UNITS_PER_HOST) }, (_, host) => {
      const first = host * UNITS_PER_HOST;
      const count = Math.min(UNITS_PER_HOST, series - first);
      const units = Array.from({ length: count }, (_, unit) => `service-${unit}`);
      return { name: `host-${host}`, units, sources: units.map((_, unit) => sourceOf(first + unit)) };
    });
  }

  take(rows: number): Batch[] {
    const ticks = Math.ceil(rows / this.series);
    return Array.from({ length: ticks }, () => this.tick()).flat();
  }

  private tick(): Batch[] {
    const tick = this.ticks++;
    return this.hosts.map(({ name, units, sources }, host) => {
      const readings = sources.map((read) => read());
      const columns = Object.fromEntries(METRICS.map((metric) => [metric.name, readings.map((reading) => reading[metric.name])]));
      return {
        v: 1,
        host: name,
        boot: 'bench',
        tick,
        ts: this.startMs + tick * INTERVAL_MS + (host % 5),
        interval_ms: INTERVAL_MS,
        late: false,
        unit: units,
        state: readings.map(({ state }) => state),
        pid: readings.map(({ pid }) => pid),
        started: readings.map(({ started }) => started),
        ...columns,
      };
    });
  }
}

function syntheticSource(series: number, random: Random): Source {
  let cpuHundredths = random.between(0, 10_000);
  let rssPages = random.between(1, 50_000);
  const isActive = series % 4 === 0;
  const counters = [0, 0, 0, 0];
  return () => {
    cpuHundredths = Math.max(0, cpuHundredths + random.between(-50, 49));
    if (random.isTrueIn(0.3)) rssPages = Math.max(1, rssPages + random.between(1, 16) * (random.isTrueIn(0.5) ? 1 : -1));
    if (isActive) for (let i = 0; i < counters.length; i++) counters[i] = (counters[i] as number) + random.between(0, 19_999);
    const [read, written, received, sent] = counters as [number, number, number, number];
    return {
      state: 'running',
      pid: 1_000 + series,
      started: EPOCH_MS - 8_400_000,
      cpu_percent: cpuHundredths / 100,
      rss_bytes: rssPages * PAGE_BYTES,
      io_read_bytes: read,
      io_write_bytes: written,
      net_rx_bytes: isActive ? received : null,
      net_tx_bytes: isActive ? sent : null,
      threads: THREADS,
    };
  };
}

/** Units of a recording, each with a reading for every tick. */
function readRecording(path: string): readonly (readonly Reading[])[] {
  const batches = gunzipSync(readFileSync(path))
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Batch);
  const units = batches[0]?.unit ?? [];
  if (units.length === 0) throw new Error(`${path} has no units; record it again with npm run bench -- --record 180`);
  return units.map((_, unit) => batches.map((batch) => readingOf(batch, unit)));
}

function readingOf(batch: Batch, unit: number): Reading {
  const values = Object.fromEntries(METRICS.map(({ name }) => [name, batch[name]?.[unit] ?? null])) as Values;
  return { ...values, state: batch.state[unit] ?? STATES[0], pid: batch.pid[unit] ?? null, started: batch.started[unit] ?? null };
}

function recordedSource(recorded: readonly (readonly Reading[])[], series: number): Source {
  // Neighbours in the recording are alike (services of the system, then programs), so a few series are taken from all over it.
  const readings = recorded[(series * SPREAD) % recorded.length] as readonly Reading[];
  // Series of one process must not be the same series: each begins elsewhere.
  let at = (Math.imul(series, 0x9e3779b1) >>> 0) % readings.length;
  return () => {
    const reading = readings[at % readings.length] as Reading;
    const round = Math.floor(at / readings.length);
    at++;
    return round === 0 ? reading : { ...reading, ...continued(readings, reading, round) };
  };
}

/** Counters go on from one playing of the recording to the next. */
function continued(readings: readonly Reading[], reading: Reading, round: number): Partial<Values> {
  const counters = METRICS.filter(({ kind }) => kind === 'counter').map(({ name }) => {
    const value = reading[name];
    const span = (readings.at(-1)?.[name] ?? 0) - (readings[0]?.[name] ?? 0);
    return [name, value === null ? null : value + Math.max(0, span) * round];
  });
  return Object.fromEntries(counters) as Partial<Values>;
}

/** Where the committed recording lies. @param root the checkout */
export function recordingOf(root: string): string {
  return join(root, 'bench', 'traces', 'recorded.jsonl.gz');
}
