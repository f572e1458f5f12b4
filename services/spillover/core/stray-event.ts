// What is looked for in an event that no store seems to have published. A store's own events are believed by their checksum: there
// are half a million rows a second. An event without a store's marks may come from an operator who has copied a stream, and then
// carries rows that are nowhere else; or from anybody, and then one high position would make the files refuse every row that
// really comes after it. So it is believed only where it contradicts neither the log nor itself.

import type { EvictionEvent } from '#shared/contract/eviction';
import { parseRow } from '#shared/contract/row';
import { nameProblem } from '#shared/contract/series';

/** The SAMPLES stream as it is now. */
export interface KnownLog {
  readonly log: number;
  /** First position that it does not have yet. */
  readonly end: number;
}

/** Of a log that never had a message nothing is known: what is said of it may be all that is left of another. */
export function isUnknown(known: KnownLog): boolean {
  return known.end <= 1;
}

/** Whether the event names a log or a position that does not exist. */
export function isBeyond({ log, to }: EvictionEvent, known: KnownLog): boolean {
  return !isUnknown(known) && (log > known.log || (log === known.log && to > known.end));
}

/** Why the event cannot be one, as a sentence; null when it can. */
export function strayProblem(event: EvictionEvent, known: KnownLog): string | null {
  if (isBeyond(event, known))
    return `positions ${event.from} to ${event.to} of log ${event.log}, but log ${known.log} ends at ${known.end}, and no store has published it`;
  const lines = new TextDecoder().decode(event.body).split('\n').slice(0, -1);
  const at = lines.findIndex((line) => !isWholeRow(line));
  return at === -1 ? null : `line ${at + 1} of ${lines.length} is not a row, and no store has published it`;
}

function isWholeRow(line: string): boolean {
  const row = parseRow(line);
  return row !== null && nameProblem(row.host) === null && nameProblem(row.unit) === null;
}
