// The spillover as one stream of steps: pull, take, again. The next messages are pulled only when the last are on disk, so a
// slow disk slows the reading down and nothing piles up in between.

import { concatMap, defer, EMPTY, type Observable, of, repeat } from 'rxjs';
import type { SpillShard } from './spill-shard.ts';

/** Completes after the step under way once `stop` has aborted; fails when the disk does. */
export function spill(shard: SpillShard, stop: AbortSignal): Observable<void> {
  return defer(() => shard.pull()).pipe(
    concatMap((messages) => shard.take(messages)),
    repeat({ delay: () => (stop.aborted ? EMPTY : of(0)) }),
  );
}
