// Count, sum and extremes of numbers: what a summary keeps of each metric.

/** Of the known values of one metric over some rows; the extremes are Infinity and -Infinity when there are none. */
export class Aggregate {
  count = 0;
  sum = 0;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;

  addValue(value: number): void {
    // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
    if (value === value) this.addTotals(1, value, value, value);
  }

  /** Adds the first `length` of `values`, NaN left out. @param divisor of each. @returns how many are known */
  addValues(values: Float64Array, length: number, divisor = 1): number {
    let count = 0;
    let sum = 0;
    let min = Number.POSITIVE_INFINITY;
    let max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < length; i++) {
      const value = values[i] as number;
      // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
      if (value !== value) continue;
      count++;
      sum += value;
      if (value < min) min = value;
      if (value > max) max = value;
    }
    if (count > 0) this.addTotals(count, sum / divisor, min / divisor, max / divisor);
    return count;
  }

  /** Adds the totals of `count` values, at least one. */
  addTotals(count: number, sum: number, min: number, max: number): void {
    this.count += count;
    this.sum += sum;
    if (min < this.min) this.min = min;
    if (max > this.max) this.max = max;
  }
}

/** One for each of the first `width` metrics of the table. */
export function emptyAggregates(width: number): Aggregate[] {
  const aggregates: Aggregate[] = [];
  while (aggregates.length < width) aggregates.push(new Aggregate());
  return aggregates;
}
