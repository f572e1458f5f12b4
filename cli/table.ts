// Tables for people: aligned columns, human numbers, `-` for what is not known. What scripts read is --json.
// Names are hostile input: control characters in them could drive the terminal, so they are shown as `?`.

import {
  ALL_METRICS,
  type AnyMetricName,
  EXTRA_METRIC_NAMES,
  type ExtraMetricName,
  METRICS,
  type MetricDefinition,
} from '#shared/contract/metrics';

export interface Heading {
  readonly title: string;
  readonly align: 'left' | 'right';
}

export const left = (title: string): Heading => ({ title, align: 'left' });
export const right = (title: string): Heading => ({ title, align: 'right' });

/** Lines without trailing spaces, each ended by a line break. */
export function formatTable(headings: readonly Heading[], rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map(printable));
  const widths = headings.map((heading, column) =>
    cells.reduce((widest, row) => Math.max(widest, row[column]?.length ?? 0), heading.title.length),
  );
  const line = (row: readonly string[]): string =>
    `${headings
      .map((heading, column) => {
        const cell = row[column] ?? '';
        const width = widths[column] ?? 0;
        return heading.align === 'left' ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd()}\n`;
  return [line(headings.map((heading) => heading.title)), ...cells.map(line)].join('');
}

export function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}

/** One heading per metric, in table order: `CPU %`, `RSS`, `IO READ`. */
export const METRIC_HEADINGS: readonly Heading[] = METRICS.map((metric) => right(titleOf(metric)));

/** The extra metrics that some of `items` know, in table order: tables show no others. */
export function extrasOf(items: Iterable<{ readonly [name in ExtraMetricName]?: unknown }>): ExtraMetricName[] {
  const known = new Set<ExtraMetricName>();
  for (const item of items) for (const name of EXTRA_METRIC_NAMES) if (item[name] !== undefined) known.add(name);
  return EXTRA_METRIC_NAMES.filter((name) => known.has(name));
}

export function extraHeadings(extras: readonly ExtraMetricName[]): Heading[] {
  return ALL_METRICS.filter(({ name }) => extras.some((extra) => extra === name)).map((metric) => right(titleOf(metric)));
}

function titleOf(metric: MetricDefinition): string {
  const words = metric.name
    .replace(/_(percent|bytes)(?=_|$)/, '')
    .replaceAll('_', ' ')
    .toUpperCase();
  return metric.unit === '%' ? `${words} %` : words;
}

/** A value of a metric in its unit. */
export function formatMetric(name: AnyMetricName, value: number | null): string {
  if (value === null) return '-';
  const metric = ALL_METRICS.find((one) => one.name === name);
  if (metric?.unit === 'By') return formatBytes(value);
  return metric?.type === 'float' ? value.toFixed(2) : formatCount(value);
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `512 B`, `1.0 KiB`, `104.9 MiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 1023.95 KiB would be shown as 1024.0 KiB.
  while (value >= 1023.95 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${Math.round(value)} B` : `${value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

/** At most one decimal: averages of counts are not whole. */
export function formatCount(count: number): string {
  return Number.isInteger(count) ? `${count}` : count.toFixed(1);
}
