// Results for people: lines for the terminal, tables for the documentation.

import { formatTable, left, right } from '../cli/table.ts';
import { type Result, ratioToRival } from './measurements.ts';

/** One line for each number. The ratio is Spillway's median divided by the rival's. */
export function terminalTable(results: readonly Result[]): string {
  const headings = [left('CASE'), left('METRIC'), left('CONTENDER'), right('MEDIAN'), right('MIN'), right('MAX'), right('SPILLWAY / IT')];
  const rows = results.map((result) => {
    const numbers = [result.median, result.min, result.max].map(formatNumber);
    return [result.case, `${result.metric} [${result.unit}]`, result.contender, ...numbers, formatRatio(ratioToRival(result, results))];
  });
  return formatTable(headings, rows);
}

/** A row for each case and contender, a column for each metric: `median (min to max)`, and for a rival the ratio. */
export function markdownTable(results: readonly Result[]): string {
  const columns = new Map(results.map(({ metric, unit }) => [metric, `${metric.replaceAll('_', ' ')} [${unit}]`]));
  const keys = new Map(results.map((result) => [`${result.case}\0${result.contender}`, result]));
  const cell = (of: Result, metric: string): string => {
    const result = results.find((one) => one.case === of.case && one.contender === of.contender && one.metric === metric);
    return result === undefined ? '' : cellText(result, results);
  };
  const rows = [...keys.values()].map((key) => [key.case, key.contender, ...[...columns.keys()].map((metric) => cell(key, metric))]);
  return markdownRows(['case', 'contender', ...columns.values()], rows);
}

export function markdownRows(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  return [titles, titles.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function cellText(result: Result, results: readonly Result[]): string {
  const median = formatNumber(result.median);
  const range = result.min === result.max ? '' : ` (${formatNumber(result.min)} to ${formatNumber(result.max)})`;
  const ratio = ratioToRival(result, results);
  return `${median}${range}${ratio === null ? '' : `, ${formatRatio(ratio)}`}`;
}

/** Three digits that count: `0.263`, `12.8`, `272 000`. */
export function formatNumber(value: number): string {
  const magnitude = Math.abs(value);
  if (magnitude >= 1_000)
    return Math.round(value)
      .toString()
      .replace(/\B(?=(\d{3})+$)/g, ' ');
  const digits = magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : 3;
  return magnitude === 0 ? '0' : `${Number(value.toFixed(digits))}`;
}

function formatRatio(ratio: number | null): string {
  return ratio === null ? '' : `${formatNumber(ratio)}×`;
}
