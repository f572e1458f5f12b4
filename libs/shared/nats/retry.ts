// Repeats what nobody answered: a JetStream that is still starting, or a connection that was lost in between.

import type { Logger } from '#shared/runtime/logging';
import { pause } from '#shared/runtime/wait';
import { apiErrorCode, isUnanswered, messageOf } from './errors.ts';

const RETRY_MS = 500;
const REPORT_EVERY = 20;
/** JetStream temporarily unavailable, no leader, cluster not available; store not made, because a deletion is under way. */
const TEMPORARY = new Set([10008, 10009, 10004, 10049]);

export async function retryUnanswered<T>(action: () => Promise<T>, logger: Logger, signal: AbortSignal): Promise<T> {
  for (let tries = 0; ; tries++) {
    signal.throwIfAborted();
    try {
      return await action();
    } catch (error) {
      if (!isUnanswered(error) && !TEMPORARY.has(apiErrorCode(error) ?? 0)) throw error;
      if (tries % REPORT_EVERY === 0) logger.warn({ reason: messageOf(error) }, 'JetStream does not answer, trying again');
      await pause(RETRY_MS, signal);
    }
  }
}
