// The tables and the plot of docs/performance.md, written from the results, so that no number there is typed by hand. The page has
// a pair of marks for each of them, `<!-- bench:window -->` and `<!-- /bench:window -->`; what stands between is replaced.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from './bench.ts';
import { betterOf, rivalsAhead, verdictsOn, worseThan } from './goals.ts';
import { type Result, SPILLWAY } from './measurements.ts';
import { type Line, plotLogLog } from './plot.ts';
import { type RunDescription, readResults, readRuns } from './results.ts';
import { formatNumber, markdownRows, markdownTable } from './table.ts';

const GIB = 1024 ** 3;

/** What the plot shows of the window, with the factor that makes nanoseconds of it. */
const COSTS: readonly { readonly metric: string; readonly title: string; readonly toNs: number }[] = [
  { metric: 'ingest_and_evict_per_sample', title: 'ingest and evict, per sample', toNs: 1 },
  { metric: 'encode_per_evicted_sample', title: 'encode, per evicted sample', toNs: 1 },
  { metric: 'latest', title: 'latest 10 of a series', toNs: 1_000 },
  { metric: 'summary', title: 'summary of a series', toNs: 1_000 },
];

/**
 * @param before results of an earlier run, to say what got worse since; null leaves what the page says of that
 * @returns the files written
 * @throws when the page lacks a mark
 */
export function writeReport(root: string, resultsDirectory: string, benches: readonly Bench[], before: string | null): string[] {
  const page = join(root, 'docs', 'performance.md');
  const plot = join(root, 'docs', 'performance-series.svg');
  const runs = readRuns(resultsDirectory);
  const allOf = (directory: string): Result[] => benches.flatMap(({ name }) => readResults(directory, name));
  const results = allOf(resultsDirectory);
  const sections = new Map([
    ['goals', goalsSection(results)],
    ['ahead', aheadSection(results)],
    ...(before === null ? [] : [['worse', worseSection(allOf(before), results)] as const]),
    ...benches.map(({ name }) => {
      const run = runs[name];
      return [name, run === undefined ? 'Not run yet.' : sectionOf(readResults(resultsDirectory, name), run)] as const;
    }),
  ]);
  const text = [...sections].reduce((all, [name, section]) => withSection(all, `bench:${name}`, section, page), readFileSync(page, 'utf8'));
  writeFileSync(page, text);
  const lines = linesOf(results.filter(({ bench }) => bench === 'window'));
  writeFileSync(plot, plotLogLog({ title: 'Cost against the number of series', x: 'series', y: 'ns', lines }));
  return [page, plot];
}

function goalsSection(results: readonly Result[]): string {
  const rows = verdictsOn(results).map(({ goal, result, isReached }) => [
    goal.what,
    result.case,
    `${betterOf(goal.metric) === 'more' ? '≥' : '≤'} ${formatNumber(goal.limit)} ${result.unit}`,
    `${formatNumber(result.median)} ${result.unit}`,
    isReached ? 'yes' : '**no**',
  ]);
  return rows.length === 0 ? 'Not run yet.' : markdownRows(['what', 'case', 'to reach', 'median', 'reached'], rows);
}

function aheadSection(results: readonly Result[]): string {
  if (results.length === 0) return 'Not run yet.';
  const rows = rivalsAhead(results).map((rival) => [
    rival.bench,
    rival.case,
    `${rival.metric.replaceAll('_', ' ')} [${rival.unit}]`,
    rival.contender,
    formatNumber(rival.median),
    formatNumber(results.find((own) => own.contender === SPILLWAY && own.case === rival.case && own.metric === rival.metric)?.median ?? 0),
  ]);
  return rows.length === 0 ? 'Nowhere.' : markdownRows(['bench', 'case', 'metric', 'rival', 'its median', "Spillway's"], rows);
}

function worseSection(before: readonly Result[], now: readonly Result[]): string {
  const rows = worseThan(before, now).map((pair) => [
    pair.now.bench,
    pair.now.case,
    `${pair.now.metric.replaceAll('_', ' ')} [${pair.now.unit}]`,
    `${formatNumber(pair.before.min)} to ${formatNumber(pair.before.max)}`,
    `${formatNumber(pair.now.min)} to ${formatNumber(pair.now.max)}`,
  ]);
  return rows.length === 0 ? 'Nothing.' : markdownRows(['bench', 'case', 'metric', 'before', 'now'], rows);
}

function sectionOf(results: readonly Result[], run: RunDescription): string {
  const absent = run.absent.length === 0 ? '' : ` Absent: ${run.absent.join(', ')}.`;
  const quick = run.isQuick ? ' **A quick run: these numbers mean little.**' : '';
  const machine = `${run.cores} cores of ${run.cpu}, ${Math.round(run.memoryBytes / GIB)} GiB, Linux ${run.kernel}, Node ${run.node}`;
  return `${run.ended.slice(0, 10)}, ${run.rounds} ${run.rounds === 1 ? 'round' : 'rounds'}, ${machine}.${absent}${quick}\n\n${markdownTable(results)}`;
}

export function withSection(text: string, mark: string, section: string, page: string): string {
  const opening = `<!-- ${mark} -->`;
  const closing = `<!-- /${mark} -->`;
  const from = text.indexOf(opening);
  const to = text.indexOf(closing);
  if (from === -1 || to < from) throw new Error(`${page} has no place for the results: ${opening} and ${closing} are wanted`);
  return `${text.slice(0, from + opening.length)}\n${section}\n${text.slice(to)}`;
}

function linesOf(results: readonly Result[]): Line[] {
  return COSTS.map(({ metric, title, toNs }) => {
    const points = results.flatMap((result) => {
      const series = /^(\d+) series, synthetic$/.exec(result.case)?.[1];
      return series === undefined || result.metric !== metric ? [] : [{ x: Number(series), y: result.median * toNs }];
    });
    return { title, points: points.sort((a, b) => a.x - b.x) };
  });
}
