// How long to leave NATS alone after a publish that failed for a reason that lasts: a full stream, a missing permission.
// One for all publishes: the reason is seldom the batch's own. Doubles up to a limit, and one success ends it.

export class Backoff {
  readonly #firstMs: number;
  readonly #mostMs: number;
  #delayMs = 0;
  #untilMs = Number.NEGATIVE_INFINITY;

  constructor(firstMs: number, mostMs: number) {
    this.#firstMs = firstMs;
    this.#mostMs = mostMs;
  }

  /** Failures that come in while it waits already, from publishes under way at the same time, do not lengthen it. */
  failed(nowMs: number): void {
    if (nowMs < this.#untilMs) return;
    this.#delayMs = this.#delayMs === 0 ? this.#firstMs : Math.min(this.#mostMs, this.#delayMs * 2);
    this.#untilMs = nowMs + this.#delayMs;
  }

  succeeded(): void {
    this.#delayMs = 0;
    this.#untilMs = Number.NEGATIVE_INFINITY;
  }

  /** Time left to wait, ms; 0 when there is nothing to wait for. */
  remainingMs(nowMs: number): number {
    return Math.max(0, this.#untilMs - nowMs);
  }
}
