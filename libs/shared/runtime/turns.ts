// Long work in turns, so that questions are answered in between.

import { setImmediate as nextTurn } from 'node:timers/promises';

/** How long a question may wait for work that is under way. A turn that ends costs some microseconds. */
const TURN_MS_MAX = 1;

/** The first turn begins when it is made. */
export class Turns {
  #beganMs = performance.now();

  /** Asked often, so it is no promise: `if (turns.isOver) await turns.next()`. */
  get isOver(): boolean {
    return performance.now() - this.#beganMs >= TURN_MS_MAX;
  }

  /** Resolves when everybody else has had a turn. */
  async next(): Promise<void> {
    await nextTurn();
    this.#beganMs = performance.now();
  }
}

/** Does work that comes in small steps. */
export async function inTurns(steps: Iterable<unknown>): Promise<void> {
  const turns = new Turns();
  for (const _ of steps) if (turns.isOver) await turns.next();
}
