// Removals that were asked for here: published to the log, and answered when this store has read them there and its window
// has forgotten the rows. What decides is the log, never the request: so every replica and every replay forgets the same.

import { randomUUID } from 'node:crypto';
import { QueryError, type RemoveReply } from '#shared/contract/queries';
import { EVENT_HEADER, encodeRemoval, REMOVE_EVENT } from '#shared/contract/removal';
import type { SeriesKey } from '#shared/contract/series';
import type { NatsLink } from '#shared/nats/connection';
import { isStreamFull } from '#shared/nats/errors';
import { publishToLog } from '#shared/nats/full-stream';
import { retryUnanswered } from '#shared/nats/retry';
import type { Logger } from '#shared/runtime/logging';
import { pause } from '#shared/runtime/wait';

/** Shorter than a client waits, so that whoever asks is told why. */
const ANSWER_MS_MAX = 2_000;
const PUBLISH_MS_MAX = 500;

export interface RemovalsOptions {
  readonly link: NatsLink;
  readonly shard: number;
  readonly logger: Logger;
  readonly stopping: AbortSignal;
}

export class Removals {
  private readonly options: RemovalsOptions;
  /** By message id. The log may be read before its acknowledgement comes. */
  private readonly waiting = new Map<string, (reply: RemoveReply) => void>();

  constructor(options: RemovalsOptions) {
    this.options = options;
  }

  /** @throws {QueryError} `unavailable` when the log does not take it, or it is not read again in time */
  async request(series: SeriesKey): Promise<RemoveReply> {
    const { shard, stopping } = this.options;
    const id = randomUUID();
    const applied = new Promise<RemoveReply>((resolve) => this.waiting.set(id, resolve));
    const deadline = AbortSignal.any([AbortSignal.timeout(ANSWER_MS_MAX), stopping]);
    try {
      const seq = await this.publish(series, id, deadline);
      const reply = await Promise.race([applied, pause(ANSWER_MS_MAX, deadline)]);
      if (reply !== undefined) return reply;
      throw new QueryError(
        'unavailable',
        `the removal is in the log at position ${seq}, but shard ${shard} has not read so far within ${ANSWER_MS_MAX} ms; the rows go when it has`,
      );
    } finally {
      this.waiting.delete(id);
    }
  }

  /** Answers whoever asked for it here; a removal that came from elsewhere, or from a replay, has nobody waiting. */
  applied(id: string, reply: RemoveReply): void {
    this.waiting.get(id)?.(reply);
  }

  /** Once in the log, however often it is sent. @returns its position */
  private async publish(series: SeriesKey, id: string, deadline: AbortSignal): Promise<number> {
    const { link, shard, logger } = this.options;
    const stream = link.subjects.samplesStream(shard);
    const send = async (): Promise<number> => {
      const options = { id, headers: [[EVENT_HEADER, REMOVE_EVENT]] as const, timeoutMs: PUBLISH_MS_MAX };
      try {
        return (await publishToLog(link, link.subjects.samples(shard, series.host), encodeRemoval(series), options)).seq;
      } catch (error) {
        if (!isStreamFull(error)) throw error;
        throw new QueryError('unavailable', `stream ${stream} is full: nothing was removed; ask again when the store has evicted`);
      }
    };
    try {
      return await retryUnanswered(send, logger, deadline);
    } catch (error) {
      if (error instanceof QueryError || !deadline.aborted) throw error;
      throw new QueryError(
        'unavailable',
        `stream ${stream} has not answered within ${ANSWER_MS_MAX} ms: the removal may be in the log or not; ask again`,
      );
    }
  }
}
