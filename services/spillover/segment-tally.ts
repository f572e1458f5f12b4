// Counts and logs what happens to segments. Counters named `dropped_..._rows` are rows lost on purpose at a configured limit.

import type { Logger } from '#shared/runtime/logging';
import type { SegmentEvent } from '#shared/segments/segment-events';

export type Counters = Record<string, number>;

export interface SegmentTally {
  readonly counters: Counters;
  /** Files moved to quarantine/ since the start. */
  quarantined: number;
}

export function emptySegmentTally(): SegmentTally {
  const names = [
    'sealed_segments',
    'deleted_segments',
    'lost_segments',
    'dropped_budget_rows',
    'dropped_oversize_rows',
    'dropped_sealed_rows',
    'lost_rows',
    'cut_tails',
    'quarantined_files',
    'put_off_sealings',
  ];
  return { counters: Object.fromEntries(names.map((name) => [name, 0])), quarantined: 0 };
}

/** @param throttled logs the first of a condition and then one line a minute */
export function tallySegmentEvent(
  tally: SegmentTally,
  event: SegmentEvent,
  logger: Logger,
  throttled: (key: string, log: (times: number) => void) => void,
): void {
  const count = (name: string, by = 1) => {
    tally.counters[name] = (tally.counters[name] ?? 0) + by;
  };
  switch (event.event) {
    case 'segment_sealed':
      count('sealed_segments');
      logger.debug({ segment: event.segment.name, content_bytes: event.contentBytes, disk_bytes: event.diskBytes }, 'segment sealed');
      break;
    case 'segment_deleted':
      count('deleted_segments');
      count('dropped_budget_rows', event.segment.rows);
      throttled('deleted', (times) =>
        logger.warn(
          { segment: event.segment.name, rows: event.segment.rows, times },
          'the spill is at its budget, the oldest segment was deleted',
        ),
      );
      break;
    case 'segment_lost':
      count('lost_segments');
      count('lost_rows', event.segment.rows);
      logger.error({ segment: event.segment.name, rows: event.segment.rows }, 'a segment is gone: somebody else deleted it');
      break;
    case 'rows_dropped':
      count(event.reason === 'over_budget' ? 'dropped_oversize_rows' : 'dropped_sealed_rows', event.rows);
      throttled('dropped', (times) =>
        logger.error(
          { reason: event.reason, log: event.log, seq: event.seq, rows: event.rows, bytes: event.bytes, times },
          'rows were dropped',
        ),
      );
      break;
    case 'tail_cut':
      count('cut_tails');
      logger.info({ segment: event.name, bytes: event.bytes }, 'a torn end was cut off: it had never been acknowledged');
      break;
    case 'quarantined':
      count('quarantined_files');
      tally.quarantined++;
      logger.error(
        { segment: event.name, moved_to: event.movedTo, bytes: event.bytes, problem: event.problem },
        'what cannot be read was moved aside',
      );
      break;
    case 'sealing_put_off':
      count('put_off_sealings');
      throttled('put_off', (times) => logger.warn({ segment: event.name, problem: event.problem, times }, 'sealing was put off'));
      break;
  }
}
