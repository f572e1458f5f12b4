// The faults: what can happen, how often, to whom, and for how long, drawn from the seed alone. A fault has a target, and a target
// has one fault at a time; different targets fail together. Every fault ends by itself, with its target whole again.

import { setTimeout as delay } from 'node:timers/promises';
import type { DiskFailure, DiskOrder } from './disk-order.ts';
import type { Load } from './load.ts';
import type { LossyLink, Weather } from './lossy-link.ts';
import type { ManagedProcess } from './managed-process.ts';
import { Random } from './random.ts';
import type { SpillDisk } from './spill-disk.ts';

export type ProcessName = 'nats' | 'store' | 'spillover';
export type LinkName = 'store' | 'spillover' | 'collectors';
export type Target = ProcessName | `link of ${LinkName}` | 'disk' | 'load';

export interface World {
  readonly processes: Readonly<Record<ProcessName, ManagedProcess>>;
  readonly links: Readonly<Record<LinkName, LossyLink>>;
  readonly disk: SpillDisk;
  readonly diskOrder: DiskOrder;
  readonly load: Load;
}

export interface Fault {
  readonly kind: string;
  readonly target: Target;
  /** Time until the next fault begins. */
  readonly gapMs: number;
  /**
   * @returns false when it could not be done
   * @throws {WrongReactionError} when the product did not do what it must do about it
   */
  run(world: World): Promise<boolean>;
}

interface FaultKind {
  readonly kind: string;
  readonly target: Target;
  readonly weight: number;
  run(world: World, random: Random, lengthMs: number): Promise<boolean>;
}

export class WrongReactionError extends Error {
  constructor(sentence: string) {
    super(sentence);
    this.name = 'WrongReactionError';
  }
}

const GAP_MS_MAX = 900;
/** Longer than a client takes to give up a silent connection: 3 pings of 5 s. */
const SILENCE_MS = 17_000;

const PROCESS_KINDS: readonly FaultKind[] = (['nats', 'store', 'spillover'] as const).flatMap((name) => [
  {
    kind: `SIGKILL ${name}`,
    target: name,
    weight: 6,
    run: async ({ processes }, _, lengthMs) => {
      await processes[name].kill();
      await delay(lengthMs);
      processes[name].start();
      return true;
    },
  },
  {
    kind: `SIGSTOP ${name}`,
    target: name,
    weight: 3,
    run: async ({ processes }, _, lengthMs) => {
      processes[name].freeze();
      await delay(lengthMs);
      processes[name].thaw();
      return true;
    },
  },
  {
    kind: `SIGTERM ${name}`,
    target: name,
    weight: 1,
    run: async ({ processes }, _, lengthMs) => {
      await processes[name].terminate();
      await delay(lengthMs);
      processes[name].start();
      return true;
    },
  },
]);

const LINK_KINDS: readonly FaultKind[] = (['store', 'spillover', 'collectors'] as const).flatMap((name) =>
  (['cut', 'hanging', 'slow'] as const).map((weather) => ({
    kind: `${weather} link of ${name}`,
    target: `link of ${name}` as const,
    weight: 1.5,
    run: async ({ links }, random, lengthMs) => {
      const isSilence = weather === 'hanging' && random.isTrueIn(0.1);
      return duringWeather(links[name], weather, isSilence ? SILENCE_MS : lengthMs);
    },
  })),
);

const DUPLICATES = 'duplicates without id';
const LOAD_KINDS: readonly FaultKind[] = [
  onLoad(DUPLICATES, async (load, random) => load.sendDuplicates(random.between(1, 20))),
  onLoad('retries under their id', (load, random) => load.retryAccepted(random, random.between(1, 20), true)),
  onLoad('malformed messages', async (load, random) => load.sendMalformed(random, random.between(1, 8))),
  onLoad('collector starts again', async (load, random) => load.startAgain(random)),
  onLoad('late and reordered batches', (load, random, lengthMs) => load.holdBack(random, lengthMs)),
  onLoad('clock step of a host', (load, random, lengthMs) => load.stepClock(random, lengthMs)),
];

/** Seen: nats-server forgets the ids of purged messages when it starts again, so these may count twice. */
const LATE_RETRY_KIND = onLoad('retries after a restart', (load, random) => load.retryAccepted(random, random.between(1, 20), false));

function onLoad(kind: string, work: (load: Load, random: Random, lengthMs: number) => Promise<void>): FaultKind {
  return { kind, target: 'load', weight: 1.5, run: ({ load }, random, lengthMs) => work(load, random, lengthMs).then(() => true) };
}

const DISK_KIND: FaultKind = {
  kind: 'full disk',
  target: 'disk',
  weight: 3,
  run: async ({ disk }, _, lengthMs) => {
    // The spillover may be writing at that very moment.
    for (let attempt = 0; attempt < 20; attempt++) {
      if (disk.fill()) {
        await delay(lengthMs);
        disk.empty();
        return true;
      }
      await delay(10);
    }
    return false;
  },
};

/** Writes come about once a second, those that need the directory synced every few seconds. */
const DISK_CALL_MS_MAX = 6_000;
const EXIT_MS_MAX = 10_000;
const DISK_FAILURE_KINDS: readonly FaultKind[] = [
  onDisk('EIO on fdatasync', { operation: 'datasync', code: 'EIO' }, 'ends'),
  onDisk('ENOSPC on fdatasync', { operation: 'datasync', code: 'ENOSPC' }, 'ends'),
  onDisk('EIO on fsync of directory', { operation: 'sync', code: 'EIO' }, 'ends'),
  onDisk('EIO on write', { operation: 'writev', code: 'EIO' }, 'ends'),
  onDisk('ENOSPC on write', { operation: 'writev', code: 'ENOSPC' }, 'goes on'),
  onDisk('short writes', { operation: 'writev', code: null }, 'goes on'),
];

/** After a failed sync or EIO nothing is known of what is on disk: the spillover must end, and recovers by starting again. */
function onDisk(kind: string, failure: Pick<DiskFailure, 'operation' | 'code'>, reaction: 'ends' | 'goes on'): FaultKind {
  return {
    kind,
    target: 'spillover',
    weight: 1,
    run: async ({ processes, diskOrder }, random) => {
      const { spillover } = processes;
      const nth = failure.operation === 'sync' ? 1 : random.between(1, 4);
      const times = reaction === 'ends' ? 1 : random.between(1, 5);
      const { starts } = spillover;
      if (!(await diskOrder.give({ ...failure, nth, times }, DISK_CALL_MS_MAX))) return false;
      if (reaction === 'goes on' || (await spillover.untilEndedSince(starts, EXIT_MS_MAX))) return true;
      throw new WrongReactionError(`${kind}: the spillover did not end within ${EXIT_MS_MAX / 1_000} s`);
    },
  };
}

export interface FaultOptions {
  /** False where a disk cannot be made full. */
  readonly hasFullDisk: boolean;
  readonly hasLateRetries: boolean;
}

/** The faults of a seed, one after the other, without end. */
export function* faultsOf(random: Random, options: FaultOptions): Generator<Fault, never> {
  const all = [
    ...PROCESS_KINDS,
    ...LINK_KINDS,
    ...LOAD_KINDS,
    ...DISK_FAILURE_KINDS,
    ...(options.hasFullDisk ? [DISK_KIND] : []),
    ...(options.hasLateRetries ? [LATE_RETRY_KIND] : []),
  ];
  // With late retries no copies without an id: nobody could say which of the two a doubled row comes from.
  const kinds = all.filter(({ kind }) => !(options.hasLateRetries && kind === DUPLICATES));
  for (;;) yield drawn(random, kinds, lengthOf(random), random.between(0, GAP_MS_MAX));
}

/**
 * Faults that a naive spillover does not survive: it or nats-server is killed for a moment, shorter than its unacknowledged events are
 * waited for, and then it has the time to write newer ones.
 */
export function* controlFaultsOf(random: Random): Generator<Fault, never> {
  const kinds = PROCESS_KINDS.filter(({ kind }) => kind === 'SIGKILL spillover' || kind === 'SIGKILL nats');
  for (;;) yield drawn(random, kinds, random.between(0, 500), random.between(2_500, 3_500));
}

function drawn(random: Random, kinds: readonly FaultKind[], lengthMs: number, gapMs: number): Fault {
  const { kind, target, run } = random.weighted(kinds);
  // Its own numbers: faults run side by side, and what one draws must not depend on how long another took.
  const own = new Random(random.between(0, 0xffff_ffff));
  return { kind, target, gapMs, run: (world) => run(world, own, lengthMs) };
}

/** Mostly short, so that many fit; sometimes longer than a timeout. */
function lengthOf(random: Random): number {
  return random.isTrueIn(0.12) ? random.between(2_500, 7_000) : random.between(0, 1_500);
}

async function duringWeather(link: LossyLink, weather: Weather, ms: number): Promise<boolean> {
  link.set(weather);
  await delay(ms);
  link.set('fair');
  return true;
}
