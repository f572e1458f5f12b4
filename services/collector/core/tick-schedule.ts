// When to take the next tick: at wall-clock multiples of the interval, so that all hosts read at the same moments and
// nothing drifts. Decides only; the caller owns the timer and passes both clocks in. Invariant: the tick number of one
// boot strictly increases by one per tick taken, whatever the wall clock does. Ticks that an overrun made impossible are
// counted, by the monotonic clock: a step of the wall clock is not an overrun, it only moves where the multiples lie.

export class TickSchedule {
  readonly intervalMs: number;
  /** Number of the last tick taken, 0 before the first. */
  #tick = 0;
  #skipped = 0;
  /** Multiple of the interval the armed tick belongs to; null before the first arming. */
  #multiple: number | null = null;
  /** When the armed tick is due, on the monotonic clock. */
  #dueMonotonicMs = 0;

  /** @param intervalMs above 0 */
  constructor(intervalMs: number) {
    if (!(intervalMs > 0)) throw new RangeError(`interval of ${intervalMs} ms`);
    this.intervalMs = intervalMs;
  }

  /** Ticks that were not taken because the work of an earlier one, or a blocked process, ran past them. */
  get skipped(): number {
    return this.#skipped;
  }

  /** Number of the last tick taken, 0 before the first. */
  get tick(): number {
    return this.#tick;
  }

  /** Plans the tick after now and returns how long to wait for it, in ms, never negative. */
  arm(wallMs: number, monotonicMs: number): number {
    const following = Math.floor(wallMs / this.intervalMs) + 1;
    let multiple = following;
    if (this.#multiple !== null) {
      this.#skipped += Math.max(0, Math.floor((monotonicMs - this.#dueMonotonicMs) / this.intervalMs));
      // A slewed clock, or a timer that fired a hair early, must not make the same multiple due twice. Only when the wall
      // clock was really set back is the distance so large that we have to start again from where it now stands.
      multiple = Math.max(following, this.#multiple + 1);
      if (multiple * this.intervalMs - wallMs > 1.5 * this.intervalMs) multiple = following;
    }
    this.#multiple = multiple;
    const delayMs = multiple * this.intervalMs - wallMs;
    this.#dueMonotonicMs = monotonicMs + delayMs;
    return delayMs;
  }

  /** How long the armed tick is still away, in ms; 0 when it is due. A timer may fire a millisecond early. */
  remainingMs(monotonicMs: number): number {
    return Math.max(0, this.#dueMonotonicMs - monotonicMs);
  }

  /** Takes the armed tick and returns its number: 1, 2, 3, … */
  take(): number {
    this.#tick++;
    return this.#tick;
  }
}
