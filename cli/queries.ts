// The commands that ask: units, latest, snapshot, summary, range, and remove. Tables for people, the reply itself with --json.

import type { PointsInRange, SamplesInRange } from '#client/range-query';
import { ALL_METRICS, type AnyMetricName, METRIC_NAMES } from '#shared/contract/metrics';
import type { CoverageSpan, Point, Summary, UnitInfo } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import { UsageFailure } from './failure.ts';
import { print, printJson, printSamplesJson, say, startProgress } from './output.ts';
import { type GlobalOptions, withClient } from './session.ts';
import {
  extraHeadings,
  extrasOf,
  formatCount,
  formatMetric,
  formatTable,
  type Heading,
  left,
  METRIC_HEADINGS,
  printable,
  right,
} from './table.ts';
import { formatTime, parseTime } from './time.ts';
import { findSeries } from './unit-name.ts';

export function units(options: GlobalOptions & { host?: string }): Promise<void> {
  return withClient(options, async (client) => {
    const list = await client.units(options.host);
    if (options.json) printJson(list);
    else if (list.length === 0) say('No unit has been seen yet.');
    else print(unitsTable(list));
  });
}

function unitsTable(list: readonly UnitInfo[]): string {
  const headings = [left('HOST'), left('UNIT'), left('STATE'), right('PID'), left('STARTED'), right('ROWS'), left('FROM'), left('TO')];
  return formatTable(
    headings,
    list.map((unit) => [
      unit.host,
      unit.unit,
      unit.state,
      `${unit.pid ?? '-'}`,
      formatTime(unit.started),
      formatCount(unit.rows),
      formatTime(unit.first_ts),
      formatTime(unit.last_ts),
    ]),
  );
}

export function latest(name: string, options: GlobalOptions & { limit: string }): Promise<void> {
  const limit = wholeNumber('--limit', options.limit, 0);
  return withClient(options, async (client) => {
    const series = await findSeries(client, name);
    printSamples(await client.latest(series, limit), options);
  });
}

export function snapshot(name: string, options: GlobalOptions): Promise<void> {
  return withClient(options, async (client) => {
    const series = await findSeries(client, name);
    printSamples(await client.snapshot(series), options);
  });
}

function printSamples(samples: readonly Sample[], options: GlobalOptions): void {
  if (options.json) printSamplesJson(samples, { next: null });
  else if (samples.length === 0) say('The window holds no sample of it.');
  else print(samplesTable(samples, false));
}

export const SAMPLE_HEADINGS: readonly Heading[] = [...METRIC_HEADINGS, right('PID'), left('STATE')];

/** The cells under {@link SAMPLE_HEADINGS}. */
export function sampleCells(sample: Sample): string[] {
  return [...METRIC_NAMES.map((name) => formatMetric(name, sample[name] ?? null)), `${sample.pid ?? '-'}`, sample.state];
}

function samplesTable(samples: readonly Sample[], isNamed: boolean): string {
  const names = isNamed ? [left('HOST'), left('UNIT')] : [];
  const extras = extrasOf(samples);
  return formatTable(
    [left('TIME'), ...names, ...SAMPLE_HEADINGS, ...extraHeadings(extras)],
    samples.map((sample) => [
      formatTime(sample.ts),
      ...(isNamed ? [sample.host, sample.unit] : []),
      ...sampleCells(sample),
      ...extras.map((name) => formatMetric(name, sample[name] ?? null)),
    ]),
  );
}

export function summary(name: string, options: GlobalOptions & { since?: string }): Promise<void> {
  const sinceMs = options.since === undefined ? undefined : parseTime(options.since, Date.now());
  return withClient(options, async (client) => {
    const series = await findSeries(client, name);
    const found = await client.summary(series, sinceMs);
    if (options.json) printJson(found);
    else if (found === null) say('The window holds no sample of it in this time.');
    else print(summaryTable(found));
  });
}

function summaryTable(found: Summary): string {
  const headings = [left('METRIC'), right('LAST'), right('AVERAGE'), right('MINIMUM'), right('MAXIMUM'), right('SAMPLES')];
  return formatTable(
    headings,
    ALL_METRICS.flatMap(({ name }) => {
      const metric = found.metrics[name];
      if (metric === undefined) return [];
      const { last, avg, min, max, count } = metric;
      return [[name, ...[last, avg, min, max].map((value) => formatMetric(name, value)), `${count}`]];
    }),
  );
}

export interface RangeOptions extends GlobalOptions {
  readonly from: string;
  readonly to: string;
  readonly points?: string;
}

export function range(name: string | undefined, options: RangeOptions): Promise<void> {
  const nowMs = Date.now();
  const fromMs = parseTime(options.from, nowMs);
  const toMs = parseTime(options.to, nowMs);
  if (fromMs > toMs) throw new UsageFailure(`--from (${formatTime(fromMs)}) is later than --to (${formatTime(toMs)})`);
  const pointsMax = options.points === undefined ? undefined : wholeNumber('--points', options.points, 1);
  return withClient(options, async (client) => {
    const series = name === undefined ? {} : await findSeries(client, name);
    const progress = startProgress('reading');
    const query = { ...series, fromMs, toMs, onProgress: (received: number) => progress.show(received, null) };
    const read = pointsMax === undefined ? client.range(query) : client.rangePoints(query, pointsMax);
    printRange(await read.finally(progress.end), name === undefined, options);
  });
}

function printRange(answer: SamplesInRange | PointsInRange, isNamed: boolean, options: GlobalOptions): void {
  const rest = { next: null, coverage: answer.coverage };
  const hasSamples = 'samples' in answer;
  if (options.json) {
    if (hasSamples) printSamplesJson(answer.samples, rest);
    else printJson({ points: answer.points, ...rest });
    return;
  }
  const count = hasSamples ? answer.samples.length : answer.points.length;
  if (count > 0) print(hasSamples ? samplesTable(answer.samples, isNamed) : pointsTable(answer.points));
  sayCoverage(count, hasSamples ? 'samples' : 'points', answer.coverage);
}

/** Averages of gauges, the last value of counters. */
function pointsTable(points: readonly Point[]): string {
  const extras = extrasOf(points.map((point) => point.metrics));
  const names: readonly AnyMetricName[] = [...METRIC_NAMES, ...extras];
  const shown = ALL_METRICS.filter(({ name }) => names.includes(name));
  return formatTable(
    [left('FROM'), left('TO'), left('HOST'), left('UNIT'), ...METRIC_HEADINGS, ...extraHeadings(extras)],
    points.map((point) => [
      formatTime(point.from_ms),
      formatTime(point.to_ms),
      point.host,
      point.unit,
      ...shown.map(({ name, kind }) => formatMetric(name, point.metrics[name]?.[kind === 'gauge' ? 'avg' : 'last'] ?? null)),
    ]),
  );
}

function sayCoverage(count: number, what: string, coverage: readonly CoverageSpan[]): void {
  const spans = coverage.map((span) => `${span.source} ${formatTime(span.from_ms)} to ${formatTime(span.to_ms)}`);
  say(`${count} ${what}; ${spans.length === 0 ? 'nothing is held of this time' : spans.join(', ')}`);
}

/** Without a question: a unit that is still collected begins anew, and what has left memory is in the spill. */
export function remove(name: string, options: GlobalOptions): Promise<void> {
  return withClient(options, async (client) => {
    const series = await findSeries(client, name);
    const reply = await client.remove(series);
    if (options.json) return printJson(reply);
    print(`${printable(`${series.host}/${series.unit}`)}: ${reply.rows} row${reply.rows === 1 ? '' : 's'} forgotten\n`);
    say('Its rows in the spill stay there, and in `spillway range`, until the disk budget deletes them.');
  });
}

function wholeNumber(option: string, text: string, min: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < min) {
    throw new UsageFailure(`${option} ${text}: must be a whole number of at least ${min}`);
  }
  return value;
}
