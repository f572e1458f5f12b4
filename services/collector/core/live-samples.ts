// The live messages of a tick, one for each unit. Beside the reads nothing costs a tick as much, so what stays the same from tick
// to tick is made once: the subject, the beginning of the JSON, and for a unit that does nothing all of it but the time.

import { unitHash } from '#shared/contract/series';
import type { Subjects } from '#shared/contract/subjects';
import type { TickHead } from './tick-batch.ts';
import type { UnitSample } from './unit-tracker.ts';

export interface LiveMessage {
  readonly subject: string;
  /** A sample without `seq`, JSON. */
  readonly payload: Uint8Array;
}

/** What is the same in every message of a unit. */
interface Beginning {
  readonly subject: string;
  /** JSON up to the time, and how many bytes that is. */
  readonly beginning: string;
  readonly beginningBytes: number;
}

interface LastMessage extends LiveMessage, Beginning {
  /** Length of the time in it. */
  readonly timeBytes: number;
  readonly sample: UnitSample;
}

export class LiveSamples {
  readonly #host: string;
  readonly #subjects: Pick<Subjects, 'live'>;
  /** By unit; those of the last tick. */
  #last = new Map<string, LastMessage>();

  constructor(host: string, subjects: Pick<Subjects, 'live'>) {
    this.#host = host;
    this.#subjects = subjects;
  }

  /** In the order of `units`. @param samples of `units`, in the same order */
  encode({ ts }: Pick<TickHead, 'ts'>, units: readonly string[], samples: readonly UnitSample[]): LiveMessage[] {
    const text = `"timestamp":"${new Date(ts).toISOString()}","ts":${ts}`;
    const time = Buffer.from(text);
    const messages = new Map<string, LastMessage>();
    for (const [i, unit] of units.entries()) {
      const sample = samples[i] as UnitSample;
      const last = this.#last.get(unit);
      const isSame = last !== undefined && last.timeBytes === time.length && areEqual(last.sample, sample);
      messages.set(unit, isSame ? atAnotherTime(last, time) : this.#encodeOne(last ?? this.#begin(unit), text, sample));
    }
    this.#last = messages;
    return [...messages.values()];
  }

  #encodeOne(begun: Beginning, time: string, sample: UnitSample): LastMessage {
    const { subject, beginning, beginningBytes } = begun;
    const { state, pid, started, metrics } = sample;
    let text = `${beginning}${time},"state":"${state}","pid":${pid},"started":${started}`;
    // Numbers and null are in JSON what they are in a template.
    for (const name of Object.keys(metrics)) text += `,"${name}":${metrics[name as keyof typeof metrics]}`;
    return { subject, beginning, beginningBytes, timeBytes: time.length, sample, payload: Buffer.from(`${text}}`) };
  }

  #begin(unit: string): Beginning {
    const key = JSON.stringify({ host: this.#host, unit, unit_hash: unitHash(this.#host, unit) });
    const beginning = `${key.slice(0, -1)},`;
    return { subject: this.#subjects.live(this.#host, unit), beginning, beginningBytes: Buffer.byteLength(beginning) };
  }
}

/** Into bytes of its own: the last message may still be on its way. */
function atAnotherTime(last: LastMessage, time: Buffer): LastMessage {
  const payload = Buffer.allocUnsafe(last.payload.length);
  payload.set(last.payload);
  payload.set(time, last.beginningBytes);
  return { ...last, payload };
}

function areEqual(a: UnitSample, b: UnitSample): boolean {
  if (a.state !== b.state || a.pid !== b.pid || a.started !== b.started) return false;
  const names = Object.keys(a.metrics) as (keyof typeof a.metrics)[];
  return names.length === Object.keys(b.metrics).length && names.every((name) => a.metrics[name] === b.metrics[name]);
}
