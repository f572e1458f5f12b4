// The removal: an event in the log that makes every window forget a series' rows below its position. It stands among the
// batches of its host, on their subject, and is told from them by a header, so that log order decides which rows it means.

import { z } from 'zod';
import { type Parsed, readMessage, rejected } from './batch.ts';
import { nameProblem, type SeriesKey } from './series.ts';

/** Header that marks a message of the SAMPLES stream as an event; absent on a batch. */
export const EVENT_HEADER = 'Spillway-Event';
export const REMOVE_EVENT = 'remove';

const removalSchema = z.object({ host: z.string(), unit: z.string() });

export function encodeRemoval({ host, unit }: SeriesKey): string {
  return JSON.stringify({ v: 1, host, unit });
}

/**
 * Reads a message that has an {@link EVENT_HEADER}. Never throws.
 * @param event value of the header
 * @param hostOfSubject host named by the subject it came on; the payload must agree. Null if the subject names none.
 */
export function parseRemoval(event: string, data: Uint8Array, hostOfSubject: string | null): Parsed<SeriesKey> {
  if (event !== REMOVE_EVENT) return rejected('bad_event', `${EVENT_HEADER} is ${JSON.stringify(event.slice(0, 40))}`);
  const fields = readMessage(data, hostOfSubject);
  if (!fields.ok) return fields;
  const parsed = removalSchema.safeParse(fields.value);
  if (!parsed.success) return rejected('bad_value', 'host and unit must be names');
  const { host, unit } = parsed.data;
  const problem = nameProblem(unit);
  if (problem !== null) return rejected('bad_name', `unit ${problem}`);
  if (host !== hostOfSubject) return rejected('host_mismatch', 'host is not the one of the subject');
  return { ok: true, value: { host, unit } };
}
