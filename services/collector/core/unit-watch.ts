// All units of this host: one reading of each in, one sample of each and what happened to them out.

import type { UnitReading } from './unit-reading.ts';
import { type UnitSample, UnitTracker } from './unit-tracker.ts';
import { type Transition, transitions } from './unit-transitions.ts';

export interface UnitEvent extends Transition {
  readonly unit: string;
}

interface Watched {
  readonly unit: string;
  readonly tracker: UnitTracker;
  last: UnitSample | null;
  /** Why it is missing; null when it is not. */
  missing: string | null;
}

export class UnitWatch {
  readonly #units: readonly Watched[];

  constructor(units: readonly string[]) {
    this.#units = units.map((unit) => ({ unit, tracker: new UnitTracker(), last: null, missing: null }));
  }

  /** @param readings one per unit, in their order */
  observe(readings: readonly UnitReading[]): { samples: UnitSample[]; events: UnitEvent[] } {
    const samples: UnitSample[] = [];
    const events: UnitEvent[] = [];
    for (const [index, watched] of this.#units.entries()) {
      const reading = readings[index];
      if (reading === undefined) throw new RangeError(`${readings.length} readings for ${this.#units.length} units`);
      const sample = watched.tracker.read(reading);
      for (const transition of transitions(watched.last, sample)) events.push({ unit: watched.unit, ...transition });
      watched.last = sample;
      watched.missing = reading.state === 'missing' ? reading.reason : null;
      samples.push(sample);
    }
    return { samples, events };
  }

  /** Units without a process at the last reading, with the reason. */
  missing(): { unit: string; reason: string }[] {
    return this.#units.flatMap(({ unit, missing }) => (missing === null ? [] : [{ unit, reason: missing }]));
  }
}
