// The most CPU and memory a unit used at a time, from readings between its samples. A tracker of its own makes a percentage of
// each of these short spans, so the samples are what they would be without.

import type { MetricValues } from '#shared/contract/metrics';
import type { UnitReading } from './unit-reading.ts';
import { type UnitSample, UnitTracker } from './unit-tracker.ts';

/** The kernel counts CPU in steps of 10 ms: over a shorter span a single step would look like a peak. */
const SPAN_MS_MIN = 50;

export class UnitPeak {
  readonly #tracker = new UnitTracker();
  #readMs = Number.NEGATIVE_INFINITY;
  #incarnation: Pick<UnitSample, 'pid' | 'started'> = { pid: null, started: null };
  #cpuPercentMax: number | null = null;
  #rssBytesMax: number | null = null;

  /** Takes a reading between two samples. One that comes too soon after the last is left out. */
  read(reading: UnitReading): void {
    if (reading.state !== 'missing') {
      if (reading.monotonicMs - this.#readMs < SPAN_MS_MIN) return;
      this.#readMs = reading.monotonicMs;
    }
    const { pid, started, metrics } = this.#tracker.read(reading);
    if (pid !== this.#incarnation.pid || started !== this.#incarnation.started) {
      this.#incarnation = { pid, started };
      this.#forget();
    }
    this.#cpuPercentMax = larger(this.#cpuPercentMax, metrics.cpu_percent);
    this.#rssBytesMax = larger(this.#rssBytesMax, metrics.rss_bytes);
  }

  /** The sample of a reading with what was the most since the sample before; never less than the sample itself has. */
  complete(reading: UnitReading, sample: UnitSample): UnitSample {
    this.read(reading);
    const metrics: MetricValues = { ...sample.metrics };
    const isSame = sample.pid === this.#incarnation.pid && sample.started === this.#incarnation.started;
    const { cpu_percent: cpuPercent, rss_bytes: rssBytes } = sample.metrics;
    if (cpuPercent !== null) metrics.cpu_percent_max = larger(isSame ? this.#cpuPercentMax : null, cpuPercent);
    if (rssBytes !== null) metrics.rss_bytes_max = larger(isSame ? this.#rssBytesMax : null, rssBytes);
    this.#forget();
    return { ...sample, metrics };
  }

  #forget(): void {
    this.#cpuPercentMax = null;
    this.#rssBytesMax = null;
  }
}

/** The larger of two values of which either may not be known. */
function larger(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.max(a, b);
}
