// Removing the beginning of a stream, in the one way that cannot remove more.

import type { JetStreamManager } from 'nats';

/**
 * Removes every message below `seq`. Does nothing below 2, where there is nothing to remove.
 * Seen with 2.9.10: a purge with `seq` 1 empties the whole stream.
 */
export async function purgeBelow(jsm: JetStreamManager, stream: string, seq: number): Promise<void> {
  if (seq <= 1) return;
  await jsm.streams.purge(stream, { seq });
}
