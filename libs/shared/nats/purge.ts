// Removing the beginning of a stream, in ways that cannot remove more.

import type { JetStreamManager } from 'nats';
import { isNotDeleted } from './errors.ts';

/** More than the block of the server's files in which a purge ends, so that the block in which the stream ends is another one. */
const PURGE_BYTES_BEHIND_MIN = 24 * 1024 * 1024;
const DELETIONS_AT_ONCE = 64;

/**
 * Removes every message below `seq`, and nothing else. A killed server may bring some of them back.
 *
 * Two things seen with 2.9.10: a purge with `seq` 1 empties the whole stream; and when a purge has ended in the block of files in which
 * the stream ends, a server that is killed afterwards may have lost that block, acknowledged messages included (after one kill in
 * fifteen; none where messages were deleted one by one, none where the purge ended far from the end).
 */
export async function purgeBelow(jsm: JetStreamManager, stream: string, seq: number): Promise<void> {
  if (seq <= 1) return;
  const { state } = await jsm.streams.info(stream);
  if (state.messages === 0 || state.first_seq >= seq) return;
  const bytesBehind = (state.bytes / state.messages) * (state.last_seq + 1 - seq);
  if (bytesBehind >= PURGE_BYTES_BEHIND_MIN) {
    await jsm.streams.purge(stream, { seq });
    return;
  }
  const end = Math.min(seq, state.last_seq + 1);
  for (let first = state.first_seq; first < end; first += DELETIONS_AT_ONCE) {
    const count = Math.min(DELETIONS_AT_ONCE, end - first);
    await Promise.all(Array.from({ length: count }, (_, i) => deleteMessage(jsm, stream, first + i)));
  }
}

async function deleteMessage(jsm: JetStreamManager, stream: string, seq: number): Promise<void> {
  try {
    await jsm.streams.deleteMessage(stream, seq, false);
  } catch (error) {
    if (!isNotDeleted(error)) throw error; // it is gone already, or goes the next time
  }
}
