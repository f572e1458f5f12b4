// A set of integers kept as sorted ranges: small where the integers are mostly consecutive, as ticks and positions are.

import type { SeqRange } from '#shared/contract/eviction';

/** Measured: an element of a packed array of numbers. */
const BOUND_BYTES = 8;
/** What one more range takes. */
export const RANGE_BYTES = 2 * BOUND_BYTES;

export class IntervalSet {
  // Alternating first and last (included) of each range, ascending, never touching.
  private readonly bounds: number[] = [];

  /** Heap held beside the empty set, bytes. */
  get bytes(): number {
    return this.bounds.length * BOUND_BYTES;
  }

  get ranges(): SeqRange[] {
    const ranges: SeqRange[] = [];
    for (let i = 0; i < this.bounds.length; i += 2) ranges.push({ first: this.bounds[i] as number, last: this.bounds[i + 1] as number });
    return ranges;
  }

  get rangeCount(): number {
    return this.bounds.length / 2;
  }

  has(value: number): boolean {
    const at = this.indexOf(value);
    return at < this.bounds.length && (this.bounds[at] as number) <= value;
  }

  /** @returns false when it was there already */
  add(value: number): boolean {
    const { bounds } = this;
    const at = this.indexOf(value);
    const first = bounds[at];
    if (first !== undefined && first <= value) return false;
    const joinsBefore = at > 0 && bounds[at - 1] === value - 1;
    const joinsAfter = first === value + 1;
    if (joinsBefore && joinsAfter) bounds.splice(at - 1, 2);
    else if (joinsBefore) bounds[at - 1] = value;
    else if (joinsAfter) bounds[at] = value;
    else bounds.splice(at, 0, value, value);
    return true;
  }

  /** Adds a range that lies above everything in the set. */
  append({ first, last }: SeqRange): void {
    if (this.bounds.length > 0 && first <= (this.bounds.at(-1) as number))
      throw new RangeError(`range ${first}-${last} is not above the set`);
    if (this.bounds.at(-1) === first - 1) this.bounds[this.bounds.length - 1] = last;
    else this.bounds.push(first, last);
  }

  delete(value: number): void {
    const { bounds } = this;
    const at = this.indexOf(value);
    const first = bounds[at];
    const last = bounds[at + 1];
    if (first === undefined || last === undefined || first > value) return;
    if (first === last) bounds.splice(at, 2);
    else if (first === value) bounds[at] = value + 1;
    else if (last === value) bounds[at + 1] = value - 1;
    else bounds.splice(at + 1, 0, value - 1, value + 1);
  }

  /** Forgets everything below `value`. */
  deleteBelow(value: number): void {
    const at = this.indexOf(value);
    this.bounds.splice(0, at);
    const first = this.bounds[0];
    if (first !== undefined && first < value) this.bounds[0] = value;
  }

  /** Index of the bound pair whose range ends at or after `value`. */
  private indexOf(value: number): number {
    let low = 0;
    let high = this.bounds.length / 2;
    // The newest range is the usual answer.
    if (high > 0 && (this.bounds[this.bounds.length - 1] as number) < value) return this.bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.bounds[middle * 2 + 1] as number) < value) low = middle + 1;
      else high = middle;
    }
    return low * 2;
  }
}
