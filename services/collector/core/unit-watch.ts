// All units of this host: one reading of each in, one sample of each and what happened to them out.

import type { ExtraMetricName } from '#shared/contract/metrics';
import { UnitPeak } from './unit-peak.ts';
import type { UnitReading } from './unit-reading.ts';
import { type UnitSample, UnitTracker } from './unit-tracker.ts';
import { type Transition, transitions } from './unit-transitions.ts';

export interface UnitEvent extends Transition {
  readonly unit: string;
}

interface Watched {
  readonly unit: string;
  readonly tracker: UnitTracker;
  /** Null: nobody asked for peaks. */
  readonly peak: UnitPeak | null;
  last: UnitSample | null;
  /** Why it is missing; null when it is not. */
  missing: string | null;
}

/** Units are known by their names: a configuration that is read again does not begin those anew that it still has. */
export class UnitWatch {
  #units = new Map<string, Watched>();

  readonly #extras: readonly ExtraMetricName[];
  readonly #hasPeaks: boolean;

  /** @param extras metrics that samples have beside those of every sample */
  constructor(extras: readonly ExtraMetricName[] = []) {
    this.#extras = extras;
    this.#hasPeaks = extras.includes('cpu_percent_max') || extras.includes('rss_bytes_max');
  }

  /** Takes readings between two samples, for peaks, of units that have had a sample. @param readings one per unit, in their order */
  observePeaks(units: readonly string[], readings: readonly UnitReading[]): void {
    for (const [index, reading] of readings.entries()) this.#units.get(units[index] as string)?.peak?.read(reading);
  }

  /**
   * Takes a reading of every unit there is now; what is left out is forgotten.
   * @param units no name twice @param readings one per unit, in their order
   */
  observe(units: readonly string[], readings: readonly UnitReading[]): { samples: UnitSample[]; events: UnitEvent[] } {
    if (readings.length !== units.length) throw new RangeError(`${readings.length} readings for ${units.length} units`);
    const samples: UnitSample[] = [];
    const events: UnitEvent[] = [];
    const watchedNow = new Map<string, Watched>();
    for (const [index, unit] of units.entries()) {
      const reading = readings[index] as UnitReading;
      const watched = this.#units.get(unit) ?? this.#begin(unit);
      watchedNow.set(unit, watched);
      const plain = watched.tracker.read(reading);
      const sample = watched.peak?.complete(reading, plain) ?? plain;
      for (const transition of transitions(watched.last, sample)) events.push({ unit, ...transition });
      watched.last = sample;
      watched.missing = reading.state === 'missing' ? reading.reason : null;
      samples.push(sample);
    }
    this.#units = watchedNow;
    return { samples, events };
  }

  #begin(unit: string): Watched {
    return { unit, tracker: new UnitTracker(this.#extras), peak: this.#hasPeaks ? new UnitPeak() : null, last: null, missing: null };
  }

  /** Units without a process at the last reading, with the reason. */
  missing(): { unit: string; reason: string }[] {
    return [...this.#units.values()].flatMap(({ unit, missing }) => (missing === null ? [] : [{ unit, reason: missing }]));
  }
}
