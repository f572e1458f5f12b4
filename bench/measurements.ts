// What was measured, round by round, and what becomes of it: median, least and greatest of every (case, contender, metric).

export type Unit = 'ns' | 'us' | 'ms' | 's' | 'B' | 'MiB' | 'rows/s' | 'rows' | 'ticks' | 'CPU s' | 'ratio';

/** One number of one round. */
export interface Measured {
  /** What was done: `1000 series, synthetic`. */
  readonly case: string;
  /** Who did it: `spillway` or a rival. */
  readonly contender: string;
  readonly metric: string;
  readonly unit: Unit;
  readonly value: number;
}

/** The rounds of one number, as kept in `bench/results/<bench>.json`. */
export interface Result {
  readonly bench: string;
  readonly case: string;
  readonly contender: string;
  readonly metric: string;
  readonly unit: Unit;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly rounds: number;
}

export const SPILLWAY = 'spillway';

/** Results in the order in which their first numbers came. */
export function resultsOf(bench: string, measured: readonly Measured[]): Result[] {
  const groups = new Map<string, [Measured, ...Measured[]]>();
  for (const one of measured) {
    const key = [one.case, one.contender, one.metric].join('\0');
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return [...groups.values()].map((group) => {
    const values = group.map(({ value }) => value);
    const { case: name, contender, metric, unit } = group[0];
    const extremes = { median: median(values), min: Math.min(...values), max: Math.max(...values) };
    return { bench, case: name, contender, metric, unit, ...extremes, rounds: values.length };
  });
}

/** The middle value, or the mean of the two in the middle. @throws {RangeError} without values */
export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** Linear between the two nearest values. @param percent 0 to 100 @throws {RangeError} without values */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new RangeError('no values to take a percentile of');
  const sorted = [...values].sort((a, b) => a - b);
  const place = ((sorted.length - 1) * percent) / 100;
  const below = sorted[Math.floor(place)] as number;
  const above = sorted[Math.ceil(place)] as number;
  return below + (above - below) * (place - Math.floor(place));
}

/** What Spillway took for each thing the rival took, by medians; null for Spillway itself and where one of them has no number or 0. */
export function ratioToRival(result: Result, results: readonly Result[]): number | null {
  if (result.contender === SPILLWAY) return null;
  const own = results.find((one) => one.contender === SPILLWAY && one.case === result.case && one.metric === result.metric);
  return own === undefined || result.median === 0 ? null : own.median / result.median;
}

/** Makes the numbers of one case and contender. */
export function measuredBy(name: string, contender: string): (metric: string, unit: Unit, value: number) => Measured {
  return (metric, unit, value) => ({ case: name, contender, metric, unit, value });
}
