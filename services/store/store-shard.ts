// One shard of the store: its window, the reader of its log, and the writer of its evictions, moved forward step by step.
//
// A step pulls, takes what came, evicts what is due, and does the upkeep of the second; the next step begins when it is done.
// So memory is bounded by construction: what does not fit is not pulled. The floor moves only when JetStream has
// acknowledged the events that carry the rows below it, and the log is purged only below the floor.

import type { RejectReason } from '#shared/contract/batch';
import { parseBatch } from '#shared/contract/batch-reader';
import { EVICTION_BYTES_MAX, type EvictionEvent, type EvictionHead, type EvictionReason, type SeqRange } from '#shared/contract/eviction';
import { type Health, QueryError, type StoreCustody, type StoreInfo } from '#shared/contract/queries';
import { EVENT_HEADER, parseRemoval } from '#shared/contract/removal';
import type { NatsLink } from '#shared/nats/connection';
import { isStreamNotFound, isUnanswered, messageOf } from '#shared/nats/errors';
import { type LogMessage, LogReader, StreamLostError } from '#shared/nats/log-reader';
import { purgeBelow } from '#shared/nats/purge';
import { publishRejected } from '#shared/nats/rejected';
import { retryUnanswered } from '#shared/nats/retry';
import { ensureShard, logIdentity } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import { createThrottledLog, type Logger } from '#shared/runtime/logging';
import { inTurns, Turns } from '#shared/runtime/turns';
import { pause } from '#shared/runtime/wait';
import { evictionEvents } from './core/eviction-events.ts';
import { PullBudget } from './core/pull-budget.ts';
import { Window } from './core/window.ts';
import { EvictedLog, type EvictedTail, type EvictionFailure, type EvictionOutcome } from './evicted-log.ts';
import { Removals } from './removals.ts';

const PULL_WAIT_MS = 250;
const UPKEEP_INTERVAL_MS = 1_000;
/** Purging costs the server by the message, so it is done seldom, and at once when the log is getting full. */
const PURGE_INTERVAL_MS = 5_000;
const LOG_FULL_SHARE = 0.8;
const LOG_EASED_SHARE = 0.7;
/** Events of another store stop for this long before we take over. */
const TAKEOVER_MS = 5_000;
const BLOCKED_RETRY_MS = 500;
/** How soon a connection that is back is noticed. */
const RECONNECTED_MS = 100;
const DELETION_MS = 1_000;
/** Messages below the floor that a log which is nearly full keeps, and which part of it they may be. */
const KEPT_MESSAGES_MAX = 64;
const KEPT_SHARE = 1 / 16;
/** What the server counts beside the payload. */
const MESSAGE_HEAD_BYTES = 512;
const PULL_MESSAGES_MAX = 512;
const MESSAGE_ID_HEADER = 'Nats-Msg-Id';

export class StoreShard {
  readonly shard: number;
  readonly window: Window;
  readonly removals: Removals;
  private readonly config: Config;
  private readonly link: NatsLink;
  private readonly logger: Logger;
  private readonly stopping: AbortSignal;
  private readonly evicted: EvictedLog;
  private reader: LogReader;
  private log: number;
  private role: 'writer' | 'follower' = 'writer';
  private lag = 0;
  private isCaughtUp = false;
  /** End of the log when it was opened: what lies before it is the past that a query must not miss. */
  private replayTo: number;
  private largestMessageBytes = 0;
  private readonly pullBudget: PullBudget;
  private blockedBy: EvictionFailure | null = null;
  private logFill = { firstSeq: 0, messages: 0, bytes: 0, maxBytes: 1 };
  private upkeepMs = 0;
  private purgedMs = 0;
  /** When the events of the other writer last moved. */
  private movedMs = 0;
  /** Rows of positions below the floor that events of this log have carried, as their headers count them. */
  private carriedRows: number;
  /** Rows taken into the window since the log began: what earlier lives of the store handed on, and what this one has read. */
  private acceptedRows = 0;
  /** The counters when `acceptedRows` was last counted anew. */
  private countersBefore: Readonly<Record<string, number>> = {};
  private readonly counters: Record<string, number> = {
    accepted_batches: 0,
    accepted_rows: 0,
    duplicate_batches: 0,
    duplicate_rows: 0,
    rejected_messages: 0,
    evicted_events: 0,
    evicted_rows: 0,
    dropped_rows: 0,
    dropped_rows_no_spill: 0,
    dropped_rows_spill_blocked: 0,
    missing_positions: 0,
    removed_rows: 0,
    removed_series: 0,
  };
  private readonly throttled = createThrottledLog(60_000, Date.now);

  private constructor(options: StoreShardOptions, start: Start, evicted: EvictedLog, window: Window) {
    this.config = options.config;
    this.link = options.link;
    this.logger = options.logger;
    this.stopping = options.stopping;
    this.shard = options.config.shard;
    this.removals = new Removals({ ...options, shard: this.shard });
    this.evicted = evicted;
    this.log = start.log;
    this.replayTo = start.end;
    this.carriedRows = start.carriedRows;
    this.window = window;
    this.countAnew();
    this.pullBudget = new PullBudget(window.budgetBytes);
    this.window.pullBytesMax = this.pullBudget.usualBytes;
    this.reader = this.openReader();
    this.movedMs = Date.now();
    if (!this.carriesRows) this.logger.warn('no spillover_path is configured: evicted rows will be dropped and counted');
  }

  /** Finds out where the floor is and starts reading there. */
  static async open(options: StoreShardOptions): Promise<StoreShard> {
    const { config, link } = options;
    const throttled = createThrottledLog(60_000, Date.now);
    const evicted = new EvictedLog(link, config.shard, Math.floor(config.metrics.max_memory_bytes / 8), (sequence, detail) =>
      throttled('strange', (times) =>
        options.logger.error({ sequence, detail, times }, 'a message in the EVICTED stream is no eviction event; it is stepped over'),
      ),
    );
    const start = await startOf(options, evicted);
    const window = new Window({ budgetBytes: config.metrics.max_memory_bytes, floor: start.floor, duplicates: start.duplicates });
    const shard = new StoreShard(options, start, evicted, window);
    shard.count('missing_positions', start.missing);
    return shard;
  }

  get retentionMs(): number {
    return this.config.metrics.retention_minutes * 60_000;
  }

  /** @throws {QueryError} `unavailable` while the log is being replayed: an answer now would deny what is known. */
  assertAnswering(): void {
    if (this.isCaughtUp || this.blockedBy === 'full') return;
    throw new QueryError(
      'unavailable',
      `shard ${this.shard} is reading its log (${Math.max(0, this.replayTo - this.window.next)} messages to go); ask again in a moment`,
    );
  }

  /** Whether rows that have left the window are in a spill, or on their way to one. */
  get hasSpilled(): boolean {
    return this.carriesRows && this.evicted.sequence > 0;
  }

  get position(): { log: number; seq: number } {
    return { log: this.log, seq: this.window.floor };
  }

  /** Pulls once and works it off. */
  async step(): Promise<void> {
    if (this.role === 'follower' && this.window.needsRoom()) {
      // The writer's floor will make room; ours to wait, or to take over.
      await pause(BLOCKED_RETRY_MS, this.stopping);
    } else {
      await this.take(await this.pull());
    }
    // Without a connection a question is lost, and reading would have to wait for its timeout when NATS is back.
    if (Date.now() - this.upkeepMs < UPKEEP_INTERVAL_MS || !this.link.isConnected()) return;
    this.upkeepMs = Date.now();
    await this.upkeep().catch((error: unknown) => {
      if (!isUnanswered(error) && this.link.isConnected()) throw error;
      this.logger.debug({ reason: messageOf(error) }, 'upkeep was not answered, trying again');
    });
  }

  async close(): Promise<void> {
    await this.reader.close();
  }

  get health(): Health {
    const problems: string[] = [];
    if (!this.link.isConnected()) problems.push('NATS is not reachable: nothing new is read until it is back');
    if (this.blockedBy === 'full') {
      const stream = this.link.subjects.evictedStream(this.shard);
      problems.push(
        `stream ${stream} is full: eviction waits, and with it reading. See whether the spillover is running and has room on its disk`,
      );
    }
    const missing = this.counters['missing_positions'] ?? 0;
    if (missing > 0)
      problems.push(`${missing} positions between the floor and the beginning of the log were gone at the start: their rows are lost`);
    return { ready: this.isCaughtUp && this.link.isConnected(), problems };
  }

  info(): StoreInfo {
    const { window } = this;
    return {
      shard: this.shard,
      role: this.role,
      log: this.log,
      floor: window.floor,
      head: window.next,
      rows: window.rows,
      series: window.catalog.size,
      blocks: window.blocks.length,
      bytes: window.bytes,
      budget_bytes: window.budgetBytes,
      lag: this.lag,
      retention_ms: this.retentionMs,
      custody: this.custody,
      counters: { ...this.counters },
      health: this.health,
    };
  }

  /** Always: accepted = carried + window + dropped + removed; each is counted where it happens. */
  private get custody(): StoreCustody {
    return {
      accepted_rows: this.acceptedRows,
      carried_rows: this.carriedRows,
      window_rows: this.window.rows,
      dropped_no_spill_rows: this.countedSince('dropped_rows_no_spill'),
      dropped_spill_blocked_rows: this.countedSince('dropped_rows_spill_blocked'),
      removed_rows: this.countedSince('removed_rows'),
    };
  }

  /** Of another log, or of a floor that another store has moved, only what is held is known. */
  private countAnew(): void {
    this.acceptedRows = this.carriedRows + this.window.rows;
    this.countersBefore = { ...this.counters };
  }

  private countedSince(name: string): number {
    return (this.counters[name] ?? 0) - (this.countersBefore[name] ?? 0);
  }

  private get carriesRows(): boolean {
    return this.config.metrics.spillover_path !== null;
  }

  private openReader(): LogReader {
    return new LogReader({
      link: this.link,
      stream: this.link.subjects.samplesStream(this.shard),
      from: this.window.next,
      messagesMax: PULL_MESSAGES_MAX,
      bytesMax: this.pullBudget.usualBytes,
      logger: this.logger,
    });
  }

  private async pull(): Promise<LogMessage[]> {
    // A follower waits when there is no room; what it has asked for would wait with it.
    const room = this.role === 'follower' ? 0 : this.window.roomForPull;
    try {
      const messages = await this.reader.pull(PULL_WAIT_MS, this.pullBudget.nextBytes(room));
      this.noteProgress();
      return messages;
    } catch (error) {
      if (!(error instanceof StreamLostError)) throw error;
      await this.followNewLog();
      return [];
    }
  }

  private async take(messages: LogMessage[]): Promise<void> {
    const { window } = this;
    let leftBytes = messages.reduce((sum, message) => sum + message.data.length, 0);
    this.pullBudget.note(messages);
    const turns = new Turns();
    for (const [i, message] of messages.entries()) {
      leftBytes -= message.data.length;
      this.countPulled(leftBytes);
      if (message.seq < window.next) {
        if (this.role === 'follower') continue; // the window has moved on to another writer's floor
        throw this.goneBack(message.seq - 1);
      }
      if (message.seq > window.next) this.noteMissing(window.next, message.seq);
      this.largestMessageBytes = Math.max(this.largestMessageBytes, message.data.length);
      await this.ingest(message);
      const left = messages.length - 1 - i;
      // At rest the window is within its budget, so the last message is done when what it made necessary is.
      if (left === 0) await this.evictForMemory();
      this.lag = message.pending + left;
      if (turns.isOver) await turns.next();
    }
    this.countPulled(0);
    this.noteProgress();
  }

  /** @param bytes of messages that were taken from the reader and are not in the window */
  private countPulled(bytes: number): void {
    const { window, reader } = this;
    window.pullBytes = bytes + reader.bufferedBytes;
    window.pullBytesMax = this.pullBudget.reserved(window.pullBytes + reader.bytesDue);
  }

  private noteMissing(from: number, to: number): void {
    this.count('missing_positions', to - from);
    this.throttled('missing', (times) =>
      this.logger.error({ from, to, times }, 'positions of the log are gone: somebody has deleted them'),
    );
  }

  private noteProgress(): void {
    if (this.window.next >= this.replayTo) this.isCaughtUp = true;
  }

  private async ingest(message: LogMessage): Promise<void> {
    const { window } = this;
    const event = message.headers?.get(EVENT_HEADER) ?? '';
    if (event !== '') return this.remove(event, message);
    const parsed = parseBatch(message.data, this.link.subjects.hostOfSamples(message.subject), window.knownUnits);
    if (!parsed.ok) {
      window.skip(message.seq);
      this.reject(parsed.reason, parsed.detail, message);
      return;
    }
    const batch = parsed.value;
    await this.evictForMemory(window.growthOf(batch));
    if (window.isFullFor(batch)) {
      await inTurns(window.sealInSteps());
      await this.evictForMemory(window.growthOf(batch));
    }
    if (window.append(batch, message.seq, message.timeMs, Date.now()) === 'duplicate') {
      this.count('duplicate_batches', 1);
      this.count('duplicate_rows', batch.unit.length);
      return;
    }
    this.count('accepted_batches', 1);
    this.count('accepted_rows', batch.unit.length);
    this.acceptedRows += batch.unit.length;
  }

  /** Everybody who reads the log forgets the same rows: those below the position of the removal. */
  private remove(event: string, message: LogMessage): void {
    this.window.skip(message.seq);
    const parsed = parseRemoval(event, message.data, this.link.subjects.hostOfSamples(message.subject));
    if (!parsed.ok) {
      this.reject(parsed.reason, parsed.detail, message);
      return;
    }
    const rows = this.window.remove(parsed.value);
    this.count('removed_rows', rows);
    if (rows > 0) this.count('removed_series', 1);
    this.logger.info({ ...parsed.value, rows, seq: message.seq }, 'a series was removed');
    this.removals.applied(message.headers?.get(MESSAGE_ID_HEADER) ?? '', { rows, seq: message.seq });
  }

  private reject(reason: RejectReason, detail: string, message: LogMessage): void {
    this.count('rejected_messages', 1);
    this.count(`rejected_${reason}`, 1);
    this.throttled(reason, (times) =>
      this.logger.warn({ reason, detail, subject: message.subject, seq: message.seq, times }, 'a message was refused'),
    );
    publishRejected(this.link, reason, message.subject, message.data);
  }

  private async evictForMemory(growthBytes = 0): Promise<void> {
    while (this.window.needsRoom(growthBytes) && this.role === 'writer' && !this.stopping.aborted) {
      const to = this.window.oldestBlockEnd();
      if (to <= this.window.floor) return; // nothing is held: what is over the budget is a single message
      await this.evict(to, 'memory');
    }
  }

  /** Publishes the rows below `to` and moves the floor there, for as long as it takes. */
  private async evict(to: number, reason: EvictionReason): Promise<void> {
    while (this.window.floor < to && this.role === 'writer' && !this.stopping.aborted) {
      if (!this.link.isConnected()) {
        await pause(RECONNECTED_MS, this.stopping);
        continue;
      }
      await inTurns(this.window.readOldest(to));
      const outcome = await this.evicted.publish(this.eventsTo(to, reason), this.window.floor);
      this.moveFloor(outcome);
      this.count(`evicted_rows_${reason}`, outcome.rows);
      await this.resolve(outcome.failure, to);
    }
  }

  /** Follows what JetStream has acknowledged. */
  private moveFloor(outcome: EvictionOutcome): void {
    this.window.evictTo(outcome.to);
    this.carriedRows = outcome.rowsBelow ?? this.carriedRows;
    this.count('evicted_events', outcome.events);
    this.count('evicted_rows', outcome.rows);
    this.count('dropped_rows', outcome.dropped);
    this.count('dropped_rows_no_spill', outcome.dropped);
  }

  /** Small for a small stream: one event stays in it for good, and there must be room for the next. */
  private eventsTo(to: number, reason: EvictionReason): Iterable<EvictionEvent> {
    const bytesMax = Math.min(EVICTION_BYTES_MAX, Math.floor(this.config.nats.evicted_max_bytes / 4));
    const plan = { log: this.log, to, reason, carriesRows: this.carriesRows, carriedRows: this.carriedRows };
    return evictionEvents(this.window, plan, bytesMax);
  }

  private async resolve(failure: EvictionFailure | null, to: number): Promise<void> {
    const wasBlocked = this.blockedBy !== null;
    this.blockedBy = failure;
    if (failure === null) {
      if (wasBlocked) this.logger.info('eviction goes on');
      return;
    }
    if (failure === 'full') {
      this.throttled('full', (times) =>
        this.logger.error({ times, policy: this.config.on_spill_blocked }, this.health.problems.join('; ')),
      );
      if (this.config.on_spill_blocked === 'drop') await this.dropBlocked(to);
      else await pause(BLOCKED_RETRY_MS, this.stopping);
      return;
    }
    if (!this.link.isConnected()) return;
    try {
      await this.followTail();
    } catch (error) {
      if (isStreamNotFound(error)) await this.followNewLog();
      else if (!isUnanswered(error) && this.link.isConnected()) throw error;
      else await pause(BLOCKED_RETRY_MS, this.stopping);
    }
  }

  /** The spill cannot take them: the rows are lost on purpose, counted, and the log is purged so that no replay brings them back. */
  private async dropBlocked(to: number): Promise<void> {
    const before = this.window.rows;
    this.window.evictTo(Math.min(to, this.window.oldestBlockEnd()));
    const rows = before - this.window.rows;
    this.count('dropped_rows', rows);
    this.count('dropped_rows_spill_blocked', rows);
    await this.purge().catch((error: unknown) => this.logger.debug({ reason: messageOf(error) }, 'purge was not answered'));
  }

  /** Takes over what the stream says has been evicted: our own events whose acknowledgement was lost, or another writer's. */
  private async followTail(): Promise<void> {
    const tail = await this.evicted.readNews();
    if (tail === null) return;
    const { log, to, duplicates } = tail.head;
    // Before anything is believed: a log that had gone back would have ended the process.
    if (log === this.log && to > this.window.next && !(await this.isWithinLog(tail))) return;
    // What no store has published, and moves nothing, is no sign of another writer.
    if (!tail.isFromStore && (log !== this.log || to <= this.window.floor)) return;
    if (!tail.isOwn) this.becomeFollower();
    this.movedMs = Date.now();
    if (log !== this.log || to <= this.window.floor) return;
    const rowsBefore = this.window.rows;
    this.carriedRows = carriedBy(tail.head);
    if (to <= this.window.next) {
      this.window.evictTo(to);
    } else {
      this.window.reset(to, duplicates);
      this.reader.seek(to);
    }
    if (!tail.isOwn) this.countAnew();
    else if (!this.carriesRows) {
      this.count('dropped_rows', rowsBefore - this.window.rows);
      this.count('dropped_rows_no_spill', rowsBefore - this.window.rows);
    }
  }

  /** A floor that lies beyond the log cannot be one. */
  private async isWithinLog({ head, sequence }: EvictedTail): Promise<boolean> {
    const { state } = await this.link.jsm.streams.info(this.link.subjects.samplesStream(this.shard));
    if (head.to <= state.last_seq + 1) return true;
    this.throttled('beyond', (times) =>
      this.logger.error(
        { floor: head.to, last_seq: state.last_seq, sequence, times },
        'an eviction event names a floor beyond the log; it is not followed',
      ),
    );
    return false;
  }

  private becomeFollower(): void {
    if (this.role === 'follower') return;
    this.role = 'follower';
    this.movedMs = Date.now();
    this.logger.warn('another store evicts for this shard; this one answers queries and follows its floor');
  }

  private async upkeep(): Promise<void> {
    await this.observeLogs();
    const nowMs = Date.now();
    if (this.window.isHeadOld(nowMs)) await inTurns(this.window.sealInSteps());
    if (this.role === 'follower' && nowMs - this.movedMs >= TAKEOVER_MS && this.isEvictionDue(nowMs)) {
      this.role = 'writer';
      this.logger.info('the other store has stopped evicting; taking over');
      await this.followTail();
    }
    if (this.role === 'follower') return;
    await this.evictForMemory();
    // Removals stand in the log behind the rows they mean: until they are read, rows that are no longer wanted look wanted.
    if (this.isCaughtUp) await this.evict(this.window.firstSince(nowMs - this.retentionMs), 'retention');
    await this.easeLog();
    if (this.window.floor > this.logFill.firstSeq && nowMs - this.purgedMs >= PURGE_INTERVAL_MS) await this.purgeSynced();
  }

  private isEvictionDue(nowMs: number): boolean {
    return this.window.needsRoom() || this.window.firstSince(nowMs - this.retentionMs - TAKEOVER_MS) > this.window.floor || this.isLogFull;
  }

  /** Also when the next messages might not fit, though they are a large part of it. */
  private get isLogFull(): boolean {
    const { bytes, maxBytes } = this.logFill;
    return bytes > 0 && (bytes >= LOG_FULL_SHARE * maxBytes || bytes + 2 * (this.largestMessageBytes + MESSAGE_HEAD_BYTES) > maxBytes);
  }

  /** Ends the process: what a backup has taken away is found out by starting again. */
  private goneBack(lastSeq: number): Error {
    return new Error(
      `stream ${this.link.subjects.samplesStream(this.shard)} has gone back: it ends at ${lastSeq}, the window at ${this.window.next - 1}. An older state of the NATS volume was restored, or a machine crashed before its disk was synced; starting again with what is there`,
    );
  }

  /** Looks at both streams: how full the log is, whether it is another one, whether somebody else evicts. */
  private async observeLogs(): Promise<void> {
    const samples = await this.link.jsm.streams.info(this.link.subjects.samplesStream(this.shard)).catch((error: unknown) => {
      if (isStreamNotFound(error)) return null;
      throw error;
    });
    if (samples === null || logIdentity(samples) !== this.log) return this.followNewLog();
    if (samples.state.last_seq + 1 < this.window.next) throw this.goneBack(samples.state.last_seq);
    const { first_seq, messages, bytes } = samples.state;
    this.logFill = { firstSeq: first_seq, messages, bytes, maxBytes: samples.config.max_bytes };
    const sequence = this.evicted.sequence;
    const { state } = await this.link.jsm.streams.info(this.link.subjects.evictedStream(this.shard));
    if (state.last_seq !== sequence) await this.followTail();
  }

  /** A log that is small for the memory budget must not block the collectors. */
  private async easeLog(): Promise<void> {
    if (!this.isLogFull) return;
    if (this.logFill.firstSeq < this.handedOn) return this.purge(this.handedOn);
    if (this.window.rows === 0) return this.purge(); // nothing else is left to make room with
    const share = Math.max(0, 1 - (LOG_EASED_SHARE * this.logFill.maxBytes) / this.logFill.bytes);
    await this.evict(this.window.endOfRows(Math.max(1, Math.ceil(this.window.rows * share))), 'log');
    await this.purge(this.handedOn);
  }

  /**
   * A little below the floor. Should a message that nobody has padded cost a full log its oldest ones (see `full-stream.ts`), then these,
   * which have been handed on.
   */
  private get handedOn(): number {
    return this.window.floor - Math.min(KEPT_MESSAGES_MAX, Math.floor(this.logFill.messages * KEPT_SHARE));
  }

  /**
   * Purges what is no longer in transit. Seen under kills of the server: the end of EVICTED may be gone after a restart although
   * it was acknowledged; while the log still has what EVICTED carries, starting again brings it back.
   */
  private async purgeSynced(): Promise<void> {
    const oldest = this.carriesRows ? await this.evicted.oldestFrom(this.log) : null;
    const below = Math.min(this.window.floor, oldest ?? this.window.floor);
    this.purgedMs = Date.now();
    if (below > this.logFill.firstSeq) await this.purge(below);
  }

  /**
   * Purges the log below a position, by default the floor, once EVICTED has been seen to say that it has left the window: what only
   * the log has is never deleted because of an acknowledgement.
   * @throws when evictions that were acknowledged are not there; starting again evicts them once more
   */
  private async purge(below = this.window.floor): Promise<void> {
    const stream = this.link.subjects.samplesStream(this.shard);
    const durable = await this.evicted.durableFloor(this.log, this.window.floor);
    // What was dropped on purpose is in no event.
    if (this.config.on_spill_blocked !== 'drop') {
      if (durable === null) return;
      if (durable < this.window.floor) {
        throw new Error(
          `${this.link.subjects.evictedStream(this.shard)} ends at position ${durable}, but evictions up to ${this.window.floor} were acknowledged. ${stream} still has what is missing: it is evicted again after a new start`,
        );
      }
    }
    await purgeBelow(this.link.jsm, stream, below);
    if (!this.carriesRows) await this.evicted.purgeAllButLast();
    this.purgedMs = Date.now();
    this.logFill.firstSeq = Math.max(this.logFill.firstSeq, below);
  }

  /** The stream was made anew. Rows of the old log exist nowhere else any more: they go to the spill first. */
  private async followNewLog(): Promise<void> {
    const { config, link } = this;
    // Seen with 2.9.10: a stream that is made while its deletion is still under way is refused, or has no subscription.
    await pause(DELETION_MS, this.stopping);
    const made = () => ensureShard(link.jsm, link.subjects, config.nats, this.shard);
    const { samples } = await retryUnanswered(made, this.logger, this.stopping);
    if (logIdentity(samples) !== this.log) {
      this.logger.error({ log: this.log }, 'the log is another one: its stream was deleted or its volume lost; starting with the new one');
      await this.evicted.readTail();
      if (this.role === 'writer') await this.saveLostLog();
      const start = await startOf({ config, link, logger: this.logger, stopping: this.stopping }, this.evicted);
      this.log = start.log;
      this.replayTo = start.end;
      this.window.reset(start.floor, start.duplicates);
      this.carriedRows = start.carriedRows;
      this.countAnew();
    }
    await this.reader.close();
    this.reader = this.openReader();
  }

  /** Hands all rows to the spill, for as long as that takes; what is left when we are told to stop is counted as dropped. */
  private async saveLostLog(): Promise<void> {
    const held = this.window.rows;
    while (this.window.floor < this.window.next && !this.stopping.aborted) {
      const outcome = await this.evicted.publish(this.eventsTo(this.window.next, 'log'), this.window.floor);
      this.moveFloor(outcome);
      this.blockedBy = outcome.failure;
      if (outcome.failure === null) continue;
      await pause(BLOCKED_RETRY_MS, this.stopping);
      if (outcome.failure !== 'full')
        await retryUnanswered(() => this.evicted.readTail(), this.logger, this.stopping).catch(() => undefined);
    }
    this.count('dropped_rows', this.window.rows);
    this.count('dropped_rows_log_lost', this.window.rows);
    if (held > 0) this.logger.warn({ rows: held, lost_rows: this.window.rows }, 'rows of the lost log were handed to the spill');
  }

  private count(name: string, by: number): void {
    this.counters[name] = (this.counters[name] ?? 0) + by;
  }
}

export interface StoreShardOptions {
  readonly config: Config;
  readonly link: NatsLink;
  readonly logger: Logger;
  readonly stopping: AbortSignal;
}

interface Start {
  readonly log: number;
  readonly floor: number;
  /** First position that the log did not have yet. */
  readonly end: number;
  readonly duplicates: readonly SeqRange[];
  /** Rows carried of positions below the floor. */
  readonly carriedRows: number;
  /** Positions between the floor and the log's first message. */
  readonly missing: number;
}

/** Where the window of the log begins: behind the last eviction, or at the log's first message. */
async function startOf(options: StoreShardOptions, evicted: EvictedLog): Promise<Start> {
  const { config, link, logger } = options;
  const { samples } = await ensureShard(link.jsm, link.subjects, config.nats, config.shard);
  const log = logIdentity(samples);
  const firstSeq = Math.max(1, samples.state.first_seq);
  const end = samples.state.last_seq + 1;
  const tail = await newestEviction(evicted, log, end);
  if (tail === null || tail.head.log !== log) return { log, floor: firstSeq, end, duplicates: [], carriedRows: 0, missing: 0 };
  if (tail.head.to > end) {
    const [stream, evictedStream] = [link.subjects.samplesStream(config.shard), link.subjects.evictedStream(config.shard)];
    throw new Error(
      `stream ${stream} has gone back: it ends at ${samples.state.last_seq}, but message ${tail.sequence} of ${evictedStream} says that everything below ${tail.head.to} has been evicted. If a backup older than the evictions was restored: restore both streams together, or delete ${stream} to begin a new log. If none was, no store has written that message: remove it (nats stream rmm ${evictedStream} ${tail.sequence}) and see who may publish to ${link.subjects.evicted(config.shard)}`,
    );
  }
  const missing = Math.max(0, firstSeq - tail.head.to);
  if (missing > 0)
    logger.error({ from: tail.head.to, to: firstSeq, positions: missing }, 'the log was purged above the floor: these positions are lost');
  return {
    log,
    floor: Math.max(tail.head.to, firstSeq),
    end,
    duplicates: tail.head.duplicates,
    carriedRows: carriedBy(tail.head),
    missing,
  };
}

/**
 * What no store has published is believed only where it is possible (from a store, it would mean that the log has gone back), and
 * where it does not take back what a store has evicted.
 */
async function newestEviction(evicted: EvictedLog, log: number, end: number): Promise<EvictedTail | null> {
  const tail = await evicted.readTail(({ head, isFromStore }) => isFromStore || (head.log === log && head.to <= end));
  if (tail === null || tail.isFromStore) return tail;
  const ofStore = await evicted.readTail(({ isFromStore }) => isFromStore);
  return ofStore !== null && ofStore.head.log === log && ofStore.head.to > tail.head.to ? ofStore : tail;
}

/** An event that does not count its rows ends the count: it begins again at 0, here and in the spillover. */
function carriedBy({ rowsBelow }: EvictionHead): number {
  return rowsBelow ?? 0;
}
