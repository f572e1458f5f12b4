// The live messages of a tick, one for each unit. Beside the reads nothing costs a tick as much, so what stays the same from tick
// to tick, the subject and the beginning of the JSON, is made once for each unit, and the JSON is put together as text.

import { unitHash } from '#shared/contract/series';
import type { Subjects } from '#shared/contract/subjects';
import type { TickHead } from './tick-batch.ts';
import type { UnitSample } from './unit-tracker.ts';

export interface LiveMessage {
  readonly subject: string;
  /** A sample without `seq`, JSON. */
  readonly payload: string;
}

interface Beginning {
  readonly subject: string;
  /** JSON up to the first key that changes. */
  readonly text: string;
}

export class LiveSamples {
  readonly #host: string;
  readonly #subjects: Pick<Subjects, 'live'>;
  /** By unit; those of the last tick. */
  #beginnings = new Map<string, Beginning>();

  constructor(host: string, subjects: Pick<Subjects, 'live'>) {
    this.#host = host;
    this.#subjects = subjects;
  }

  /** In the order of `units`. @param samples of `units`, in the same order */
  encode({ ts }: Pick<TickHead, 'ts'>, units: readonly string[], samples: readonly UnitSample[]): LiveMessage[] {
    const time = `"timestamp":"${new Date(ts).toISOString()}","ts":${ts}`;
    const beginnings = new Map<string, Beginning>();
    const messages = units.map((unit, i) => {
      const beginning = this.#beginnings.get(unit) ?? this.#begin(unit);
      beginnings.set(unit, beginning);
      const { state, pid, started, metrics } = samples[i] as UnitSample;
      let text = `${beginning.text}${time},"state":"${state}","pid":${pid},"started":${started}`;
      // Numbers and null are in JSON what they are in a template.
      for (const name of Object.keys(metrics)) text += `,"${name}":${metrics[name as keyof typeof metrics]}`;
      return { subject: beginning.subject, payload: `${text}}` };
    });
    this.#beginnings = beginnings;
    return messages;
  }

  #begin(unit: string): Beginning {
    const key = JSON.stringify({ host: this.#host, unit, unit_hash: unitHash(this.#host, unit) });
    return { subject: this.#subjects.live(this.#host, unit), text: `${key.slice(0, -1)},` };
  }
}
