// Incarnations in the window: state, pid and start time of a unit, which stay the same for many samples, held once and referred
// to by a small integer. Ids are handed out in order, so those of neighbouring series are neighbours and pack to nothing.
//
// Each knows the position of the newest row with it, so that one is known to be free when the window has moved past that (`sweep`).

import { capacityWith, grown } from './columns.ts';

/** In the typed arrays, by id. */
const INCARNATION_BYTES = 1 + 8 + 8 + 4 + 4;
/** By an eighth: units that all start again at once take what they need, and little more. */
const GROWTH = 1.125;
/** A series that flaps between a few finds them again; beyond these it is given a new one. */
const LOOK_BACK = 8;
/** In the place of an id: there is none. */
export const NO_INCARNATION = 0xffff_ffff;

export class Incarnations {
  /** Codes: indexes into `STATES`. */
  state = new Uint8Array(0);
  /** NaN where not known. */
  pid = new Float64Array(0);
  started = new Float64Array(0);
  /** Position of the newest row with it, of which these are the low 32 bits. */
  private newestSeq = new Uint32Array(0);
  /** The one before of the same series. */
  private previous = new Uint32Array(0);
  /** The first of those that are free; each has the next in the place of the one before. */
  private free = NO_INCARNATION;
  private freeCount = 0;
  private end = 0;

  get bytes(): number {
    return this.state.length * INCARNATION_BYTES;
  }

  /** Bytes that so many more may add. */
  growthOf(count: number): number {
    const { length } = this.state;
    return (capacityWith(length, this.end - this.freeCount + count, GROWTH) - length) * INCARNATION_BYTES;
  }

  /** Ids in use. */
  get size(): number {
    return this.end - this.freeCount;
  }

  /** Id of an incarnation among the newest of a series; {@link NO_INCARNATION} when it is not there. @param newest the series' newest */
  find(newest: number, state: number, pid: number, started: number): number {
    let id = newest;
    for (let step = 0; id !== NO_INCARNATION && step < LOOK_BACK; step++) {
      if (this.state[id] === state && isSame(this.pid[id] as number, pid) && isSame(this.started[id] as number, started)) return id;
      id = this.previous[id] as number;
    }
    return NO_INCARNATION;
  }

  /** Id of a new incarnation of a series. @param newest the series' newest so far, or {@link NO_INCARNATION} */
  add(newest: number, state: number, pid: number, started: number): number {
    const id = this.freeCount > 0 ? this.takeFree() : this.end++;
    if (id >= this.state.length) this.resize(capacityWith(this.state.length, id + 1, GROWTH));
    this.state[id] = state;
    this.pid[id] = pid;
    this.started[id] = started;
    this.previous[id] = newest;
    return id;
  }

  /** A row at a position has this one. */
  use(id: number, seq: number): void {
    this.newestSeq[id] = seq;
  }

  /**
   * Frees every id that no row from a position on has, and gives back room at the end. The window must span less than 2^31 positions.
   * @param floor the oldest position of which rows are held
   * @param kept ids that stay whether there are rows with them or not
   */
  sweep(floor: number, kept: ReadonlySet<number>): void {
    const isFree = new Uint8Array(this.end);
    for (let id = this.free; id !== NO_INCARNATION; id = this.previous[id] as number) isFree[id] = 1;
    for (let id = 0; id < this.end; id++) if ((((this.newestSeq[id] as number) - floor) | 0) < 0 && !kept.has(id)) isFree[id] = 1;
    while (this.end > 0 && isFree[this.end - 1] === 1) this.end--;
    this.free = NO_INCARNATION;
    this.freeCount = 0;
    for (let id = this.end - 1; id >= 0; id--) {
      const before = this.previous[id] as number;
      if (isFree[id] === 1) {
        this.previous[id] = this.free;
        this.free = id;
        this.freeCount++;
      } else if (before >= this.end || isFree[before] === 1) this.previous[id] = NO_INCARNATION;
    }
    if (this.end * 2 < this.state.length) this.resize(this.end);
  }

  /** Frees all. */
  clear(): void {
    this.free = NO_INCARNATION;
    this.freeCount = 0;
    this.end = 0;
    this.resize(0);
  }

  private takeFree(): number {
    const id = this.free;
    this.free = this.previous[id] as number;
    this.freeCount--;
    return id;
  }

  private resize(capacity: number): void {
    this.state = grown(this.state, capacity);
    this.pid = grown(this.pid, capacity);
    this.started = grown(this.started, capacity);
    this.newestSeq = grown(this.newestSeq, capacity);
    this.previous = grown(this.previous, capacity);
  }
}

function isSame(a: number, b: number): boolean {
  return a === b || (Number.isNaN(a) && Number.isNaN(b));
}
