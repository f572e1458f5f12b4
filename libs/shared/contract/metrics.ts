// The metrics table: every measurement Spillway carries, in one place.
// Schema, window columns, rows, queries, CLI and exposition are all driven by it, so a new metric is one row here
// (plus the sampler that reads it). The order is the order of columns in rows and in the window.

/** `gauge`: a value at a moment. `counter`: a total since the start of the incarnation; it starts again with the next one. */
export type MetricKind = 'gauge' | 'counter';

export interface MetricDefinition {
  /** Name on the wire, in rows and in replies. */
  readonly name: string;
  /** UCUM-like unit: `%` is percent of one core, `By` is bytes, `{thread}` is a count. */
  readonly unit: '%' | 'By' | '{thread}';
  readonly kind: MetricKind;
  /** `integer`: 0 to 2^53 - 1. `float`: any finite number that is not negative. */
  readonly type: 'integer' | 'float';
  /** What the number says, for people. */
  readonly meaning: string;
  /** Where the collector reads it on Linux. */
  readonly source: string;
  /** Name in OpenTelemetry's semantic conventions for processes. */
  readonly otel: string;
}

export const METRICS = [
  {
    name: 'cpu_percent',
    unit: '%',
    kind: 'gauge',
    type: 'float',
    meaning: "CPU since the unit's previous reading, in percent of one core; null in the first sample of an incarnation",
    source: '/proc/<pid>/stat utime, stime, cutime, cstime',
    otel: 'process.cpu.utilization',
  },
  {
    name: 'rss_bytes',
    unit: 'By',
    kind: 'gauge',
    type: 'integer',
    meaning: 'resident memory, summed over the process tree',
    source: '/proc/<pid>/stat rss',
    otel: 'process.memory.usage',
  },
  {
    name: 'io_read_bytes',
    unit: 'By',
    kind: 'counter',
    type: 'integer',
    meaning: 'bytes read from storage since the start of the incarnation',
    source: '/proc/<pid>/io read_bytes',
    otel: 'process.disk.io{disk.io.direction=read}',
  },
  {
    name: 'io_write_bytes',
    unit: 'By',
    kind: 'counter',
    type: 'integer',
    meaning: 'bytes written to storage since the start of the incarnation',
    source: '/proc/<pid>/io write_bytes',
    otel: 'process.disk.io{disk.io.direction=write}',
  },
  {
    name: 'net_rx_bytes',
    unit: 'By',
    kind: 'counter',
    type: 'integer',
    meaning: "bytes received in the unit's own network namespace; null when it shares the host's",
    source: '/proc/<pid>/net/dev',
    otel: 'process.network.io{network.io.direction=receive}',
  },
  {
    name: 'net_tx_bytes',
    unit: 'By',
    kind: 'counter',
    type: 'integer',
    meaning: "bytes sent in the unit's own network namespace; null when it shares the host's",
    source: '/proc/<pid>/net/dev',
    otel: 'process.network.io{network.io.direction=transmit}',
  },
  {
    name: 'threads',
    unit: '{thread}',
    kind: 'gauge',
    type: 'integer',
    meaning: 'threads, summed over the process tree',
    source: '/proc/<pid>/stat num_threads',
    otel: 'process.thread.count',
  },
] as const satisfies readonly MetricDefinition[];

export type MetricName = (typeof METRICS)[number]['name'];

/** Names in column order. */
export const METRIC_NAMES: readonly MetricName[] = METRICS.map((metric) => metric.name);

/** One value per metric; `null` means not known, never zero. */
export type MetricValues = { [name in MetricName]: number | null };

/**
 * State of a unit at a sample. The order is the code under which the window stores it.
 * `missing`: no process matches; all metrics, `pid` and `started` are null.
 */
export const STATES = ['running', 'zombie', 'missing'] as const;
export type State = (typeof STATES)[number];
