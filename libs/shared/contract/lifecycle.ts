// Lifecycle events: what happened to a unit between two ticks. Kept nowhere; for subscribers who watch.

/** `left_out`: more units than `units_max`; the first that is not published. Once, until all are published again. */
export const LIFECYCLE_EVENTS = ['started', 'stopped', 'restarted', 'zombie', 'missing', 'left_out'] as const;
export type LifecycleEventName = (typeof LIFECYCLE_EVENTS)[number];

export interface LifecycleEvent {
  readonly event: LifecycleEventName;
  readonly host: string;
  readonly unit: string;
  /** Wall clock of the tick that saw it, ms. */
  readonly ts: number;
  /** The incarnation it is about: the new one of a start, the ended one of a stop. Null where there is none. */
  readonly pid: number | null;
  readonly started: number | null;
}
