// The metrics table: every measurement Spillway carries, in one place.
// Schema, window columns, rows, queries, CLI and exposition are all driven by it, so a new metric is one row here
// (plus the sampler that reads it). The order is the order of columns in rows and in the window.
// Metrics that have to be asked for stand behind the others: a row without them looks as if they did not exist.

/** `gauge`: a value at a moment. `counter`: a total since the start of the incarnation; it starts again with the next one. */
export type MetricKind = 'gauge' | 'counter';

export interface MetricDefinition {
  /** Name on the wire, in rows and in replies. */
  readonly name: string;
  /** UCUM-like unit: `%` is percent of one core, `By` is bytes, braces are counts. */
  readonly unit: '%' | 'By' | '{thread}' | '{file}' | '{switch}' | '{fault}';
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

/** Metrics that a collector reads only where its configuration names them: in `metrics_extra`, or by `peak: true`. */
export const EXTRA_METRICS = [
  {
    name: 'cpu_percent_max',
    unit: '%',
    kind: 'gauge',
    type: 'float',
    meaning: "most CPU in a tenth of a second since the unit's previous sample, in percent of one core",
    source: '/proc/<pid>/stat, ten times a second',
    otel: 'process.cpu.utilization.max',
    key: 'peak',
  },
  {
    name: 'rss_bytes_max',
    unit: 'By',
    kind: 'gauge',
    type: 'integer',
    meaning: "most resident memory, read ten times a second since the unit's previous sample",
    source: '/proc/<pid>/stat, ten times a second',
    otel: 'process.memory.usage.max',
    key: 'peak',
  },
  {
    name: 'cpu_user_percent',
    unit: '%',
    kind: 'gauge',
    type: 'float',
    meaning: 'the part of cpu_percent that was spent in user mode',
    source: '/proc/<pid>/stat utime, cutime',
    otel: 'process.cpu.utilization{cpu.mode=user}',
    key: 'metrics_extra',
  },
  {
    name: 'cpu_system_percent',
    unit: '%',
    kind: 'gauge',
    type: 'float',
    meaning: 'the part of cpu_percent that was spent in the kernel',
    source: '/proc/<pid>/stat stime, cstime',
    otel: 'process.cpu.utilization{cpu.mode=system}',
    key: 'metrics_extra',
  },
  {
    name: 'open_fds',
    unit: '{file}',
    kind: 'gauge',
    type: 'integer',
    meaning: 'open file descriptors, summed over the process tree',
    source: '/proc/<pid>/fd',
    otel: 'process.open_file_descriptor.count',
    key: 'metrics_extra',
  },
  {
    name: 'fd_limit',
    unit: '{file}',
    kind: 'gauge',
    type: 'integer',
    meaning: 'file descriptors that the root process may have open (soft limit); null when there is no limit',
    source: '/proc/<pid>/limits Max open files',
    otel: 'process.open_file_descriptor.limit',
    key: 'metrics_extra',
  },
  {
    name: 'swap_bytes',
    unit: 'By',
    kind: 'gauge',
    type: 'integer',
    meaning: 'anonymous memory that is swapped out, summed over the process tree',
    source: '/proc/<pid>/status VmSwap',
    otel: 'process.memory.swap',
    key: 'metrics_extra',
  },
  {
    name: 'pss_bytes',
    unit: 'By',
    kind: 'gauge',
    type: 'integer',
    meaning:
      'proportional set size, summed over the process tree; read once a minute, null in between and for units above 1 GiB of resident memory',
    source: '/proc/<pid>/smaps_rollup Pss',
    otel: 'process.memory.pss',
    key: 'metrics_extra',
  },
  {
    name: 'voluntary_ctx_switches',
    unit: '{switch}',
    kind: 'counter',
    type: 'integer',
    meaning: 'times a thread of the unit gave up its CPU to wait, since the start of the incarnation; of threads that were seen',
    source: '/proc/<pid>/task/<tid>/status voluntary_ctxt_switches',
    otel: 'process.context_switches{process.context_switch_type=voluntary}',
    key: 'metrics_extra',
  },
  {
    name: 'involuntary_ctx_switches',
    unit: '{switch}',
    kind: 'counter',
    type: 'integer',
    meaning: 'times a thread of the unit was taken off its CPU, since the start of the incarnation; of threads that were seen',
    source: '/proc/<pid>/task/<tid>/status nonvoluntary_ctxt_switches',
    otel: 'process.context_switches{process.context_switch_type=involuntary}',
    key: 'metrics_extra',
  },
  {
    name: 'major_faults',
    unit: '{fault}',
    kind: 'counter',
    type: 'integer',
    meaning: 'page faults that had to read from storage, since the start of the incarnation',
    source: '/proc/<pid>/stat majflt, cmajflt',
    otel: 'process.paging.faults{process.paging.fault_type=major}',
    key: 'metrics_extra',
  },
] as const satisfies readonly (MetricDefinition & { readonly key: 'metrics_extra' | 'peak' })[];

export const ALL_METRICS = [...METRICS, ...EXTRA_METRICS] as const;

export type MetricName = (typeof METRICS)[number]['name'];
export type ExtraMetricName = (typeof EXTRA_METRICS)[number]['name'];
export type AnyMetricName = MetricName | ExtraMetricName;

/** Names in column order: of the metrics every sample has, of those that have to be asked for, and of both. */
export const METRIC_NAMES: readonly MetricName[] = METRICS.map((metric) => metric.name);
export const EXTRA_METRIC_NAMES: readonly ExtraMetricName[] = EXTRA_METRICS.map((metric) => metric.name);
export const ALL_METRIC_NAMES: readonly AnyMetricName[] = ALL_METRICS.map((metric) => metric.name);

/** One value per metric; `null` means not known, never zero. An extra metric stands there only where it is known. */
export type MetricValues = { [name in MetricName]: number | null } & { [name in ExtraMetricName]?: number | null };

/**
 * State of a unit at a sample. The order is the code under which the window stores it.
 * `missing`: no process matches; all metrics, `pid` and `started` are null.
 */
export const STATES = ['running', 'zombie', 'missing'] as const;
export type State = (typeof STATES)[number];
