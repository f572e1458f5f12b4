// Incarnations in the window: state, pid and start time of a unit, which stay the same for many samples, held once and referred
// to by a small integer. Ids are handed out in order, so those of neighbouring series are neighbours and pack to nothing.
//
// Which of them are still referred to is not counted row by row: whoever holds the rows marks what is in use now and then, and
// the rest is freed (`sweep`).

import { grown } from './columns.ts';

/** In the typed arrays, by id. */
const INCARNATION_BYTES = 1 + 8 + 8 + 4;
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
  /** The one before of the same series. */
  private previous = new Uint32Array(0);
  /** The first of those that are free; each has the next in the place of the one before. */
  private free = NO_INCARNATION;
  private freeCount = 0;
  private end = 0;

  get bytes(): number {
    return this.state.length * INCARNATION_BYTES;
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
    if (id >= this.state.length) this.resize(Math.max(16, Math.ceil(this.state.length * 1.5)));
    this.state[id] = state;
    this.pid[id] = pid;
    this.started[id] = started;
    this.previous[id] = newest;
    return id;
  }

  /** Frees every id that `inUse` does not have, and gives back room at the end. */
  sweep(inUse: ReadonlySet<number>): void {
    this.free = NO_INCARNATION;
    this.freeCount = 0;
    let end = 0;
    for (const id of inUse) end = Math.max(end, id + 1);
    this.end = end;
    for (let id = end - 1; id >= 0; id--) {
      if (!inUse.has(id)) {
        this.previous[id] = this.free;
        this.free = id;
        this.freeCount++;
      } else if (!inUse.has(this.previous[id] as number)) this.previous[id] = NO_INCARNATION;
    }
    if (end * 2 < this.state.length) this.resize(end);
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
    this.previous = grown(this.previous, capacity);
  }
}

function isSame(a: number, b: number): boolean {
  return a === b || (Number.isNaN(a) && Number.isNaN(b));
}
