// What a segment log tells its owner: things that have happened, to be logged and counted. None of them is a failure of the
// call during which it is told.

export interface SegmentRange {
  readonly name: string;
  readonly log: number;
  readonly first: number;
  readonly last: number;
  readonly rows: number;
  /** Times of the earliest and latest record, ms; null when none has a time. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

export type SegmentEvent =
  | { readonly event: 'segment_sealed'; readonly segment: SegmentRange; readonly contentBytes: number; readonly diskBytes: number }
  /** Deleted by us, the oldest first, because the budget needed the room. */
  | { readonly event: 'segment_deleted'; readonly reason: 'budget'; readonly segment: SegmentRange; readonly diskBytes: number }
  /** Not there any more, and not by us. */
  | { readonly event: 'segment_lost'; readonly segment: SegmentRange }
  /** `over_budget`: larger than all that could be freed. `sealed`: its segment has been sealed already. */
  | {
      readonly event: 'rows_dropped';
      readonly reason: 'over_budget' | 'sealed';
      readonly log: number;
      readonly seq: number;
      readonly rows: number;
      readonly bytes: number;
    }
  /** Bytes after the last whole line: a write that was cut short and never acknowledged. */
  | { readonly event: 'tail_cut'; readonly name: string; readonly bytes: number }
  /** Moved aside, to be looked at by a person. */
  | { readonly event: 'quarantined'; readonly name: string; readonly movedTo: string; readonly bytes: number; readonly problem: string }
  /** Tried again after the next rotation. */
  | { readonly event: 'sealing_put_off'; readonly name: string; readonly problem: string };

export type OnSegmentEvent = (event: SegmentEvent) => void;
