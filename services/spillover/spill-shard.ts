// One shard of the spill: the segments, the reader of the EVICTED stream, and the intake between them.
//
// Order: rows are appended and synced, then the position moves, then the stream is purged, seldom, up to but not including
// the last event that brought rows. So at every moment each row is in the stream, or in a segment, or in both; which of
// them already are in a segment is read from the segment itself when the process starts.

import { join } from 'node:path';
import type { RejectReason } from '#shared/contract/batch';
import { checkEvictionBody, type EvictionEvent, isFromStore, parseEvictionHead } from '#shared/contract/eviction';
import type { Health, LogPosition, SpilloverCustody, SpilloverInfo } from '#shared/contract/queries';
import type { NatsLink } from '#shared/nats/connection';
import { isStreamNotFound, isUnanswered, messageOf } from '#shared/nats/errors';
import { type LogMessage, LogReader, StreamLostError } from '#shared/nats/log-reader';
import { purgeBelow } from '#shared/nats/purge';
import { publishRejected } from '#shared/nats/rejected';
import { retryUnanswered } from '#shared/nats/retry';
import { ensureShard, logIdentity } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import { DirectoryInUseError, type DirectoryLock, lockDirectory } from '#shared/runtime/directory-lock';
import { createThrottledLog, type Logger } from '#shared/runtime/logging';
import { SetupError } from '#shared/runtime/service';
import { pause } from '#shared/runtime/wait';
import type { Entry } from '#shared/segments/append-plan';
import type { Disk } from '#shared/segments/disk';
import { forEachLine } from '#shared/segments/record-format';
import { DirectoryRefusedError, DiskFullError, SegmentLimitError } from '#shared/segments/segment-errors';
import type { SegmentEvent } from '#shared/segments/segment-events';
import { openSegmentLog, type SegmentLog } from '#shared/segments/segment-log';
import { CarriedCount } from './core/carried-count.ts';
import type { Gap } from './core/coverage.ts';
import { type Behind, type FilesEnd, type Hole, Intake } from './core/intake.ts';
import { createRowFormat } from './core/row-fields.ts';
import { isBeyond, isUnknown, type KnownLog, strayProblem } from './core/stray-event.ts';
import { BOOK_BYTES_MAX, CustodyBook } from './custody-book.ts';
import { GapBook } from './gap-book.ts';
import { SpillReader } from './reader.ts';
import { type Counters, emptySegmentTally, type SegmentTally, tallySegmentEvent } from './segment-tally.ts';

export const SEGMENT_PREFIX = 'metrics';

const PULL_WAIT_MS = 250;
/** Group commit: what one pull brings is one append: 64 events of the usual size. */
const PULL_MESSAGES_MAX = 256;
const PULL_BYTES_MAX = 8 * 1024 * 1024;
/** Purging, looking at the stream and at the directory: seldom, because none of it is needed for correctness. */
const UPKEEP_INTERVAL_MS = 3_000;
/** A stream that is deleted is gone for good after this time. */
const DELETION_MS = 1_000;
/** Of a stream's limit: purged at once when so much has been read, or a store that a full stream holds up would wait for the interval. */
const PURGE_SHARE = 0.25;
const DISK_FULL_RETRY_MS_MIN = 250;
const DISK_FULL_RETRY_MS_MAX = 5_000;
const IN_USE_RETRY_MS = 1_000;
const LOG_INTERVAL_MS = 60_000;
/** Clocks of servers differ, but not by more. */
const LOG_AHEAD_MS_MAX = 86_400_000;

export interface SpillShardOptions {
  readonly config: Config;
  readonly link: NatsLink;
  readonly logger: Logger;
  readonly stopping: AbortSignal;
  readonly disk: Disk;
}

interface Parts extends SpillShardOptions {
  readonly directory: string;
  readonly segments: SegmentLog;
  readonly lock: DirectoryLock;
  readonly filesEnd: FilesEnd | null;
  readonly gaps: GapBook;
  readonly book: CustodyBook;
  readonly tally: SegmentTally;
  readonly lost: Gap[];
  readonly streamCreated: string;
  readonly knownLog: KnownLog;
}

export class SpillShard {
  readonly shard: number;
  readonly queries: SpillReader;
  private readonly parts: Parts;
  private readonly segments: SegmentLog;
  private readonly intake: Intake;
  private readonly carried: CarriedCount;
  private readonly reader: LogReader;
  private readonly stream: string;
  private readonly counters: Counters = {
    events: 0,
    rows: 0,
    bytes: 0,
    duplicate_rows: 0,
    older_log_rows: 0,
    holes: 0,
    rejected_messages: 0,
  };
  private readonly throttled = createThrottledLog(LOG_INTERVAL_MS, Date.now);
  /** First position that is not synced yet. */
  private synced: LogPosition | null;
  /** As it was between two appends: in the middle of one, its terms do not belong together. */
  private custody: SpilloverCustody;
  /** Stream sequences: of the last message handled, of the last one that brought rows, up to which was purged. */
  private handled = 0;
  private carrier = 0;
  private purged = 0;
  /** Payload bytes handled since the last purge. */
  private handledBytes = 0;
  /** Creation time of the stream that is read: sequences of another one mean something else. */
  private streamCreated: string;
  private knownLog: KnownLog;
  /** Whether it was looked at since the messages in hand were received. */
  private isLogFresh = false;
  private lag = 0;
  private diskProblem: string | null = null;
  private newestHole: Hole | null = null;
  private upkeepMs = 0;

  private constructor(parts: Parts) {
    const { config, link, logger } = parts;
    this.parts = parts;
    this.shard = config.shard;
    this.segments = parts.segments;
    this.intake = new Intake(parts.filesEnd);
    this.synced = this.intake.position;
    const log = parts.filesEnd?.log ?? null;
    this.carried = new CarriedCount(log, log === null ? 0 : this.heldRows(log), log === null ? 0 : parts.book.uncountedRows(log));
    this.custody = this.countCustody();
    this.stream = link.subjects.evictedStream(config.shard);
    this.streamCreated = parts.streamCreated;
    this.knownLog = parts.knownLog;
    // From the first message there is: what the files have of it is known to the intake, not to a stream sequence.
    this.reader = new LogReader({
      link,
      stream: this.stream,
      from: 1,
      messagesMax: PULL_MESSAGES_MAX,
      bytesMax: PULL_BYTES_MAX,
      logger,
    });
    this.queries = new SpillReader({
      log: parts.segments,
      position: () => this.synced,
      gaps: () => parts.gaps.all,
      onUnreadable: (error) => logger.error({ segment: error.segment }, error.message),
    });
  }

  /**
   * Opens the segments, waiting while the disk is full.
   * @throws {SetupError} if the directory cannot be used
   */
  static async open(options: SpillShardOptions): Promise<SpillShard> {
    const { config, link, logger } = options;
    const { spillover_path } = config.metrics;
    if (spillover_path === null)
      throw new SetupError('there is nothing to spill to: set metrics.spillover_path, and metrics.spillover_max_bytes above 0');
    const { evicted, samples } = await ensureShard(link.jsm, link.subjects, config.nats, config.shard);
    const directory = join(spillover_path, `${config.shard}`);
    const tally = emptySegmentTally();
    const throttled = createThrottledLog(LOG_INTERVAL_MS, Date.now);
    const lost: Gap[] = [];
    const onEvent = (event: SegmentEvent): void => {
      tallySegmentEvent(tally, event, logger, throttled);
      if (event.event === 'segment_lost') lost.push(gapOfLost(event.segment));
    };
    const knownLog = knownLogOf(samples);
    const lock = await takeDirectory(options, directory);
    try {
      const { segments, book } = await openSegments(options, directory, knownLog, onEvent);
      const filesEnd = await readFilesEnd(segments);
      const gaps = await GapBook.open(options.disk, directory);
      return new SpillShard({
        ...options,
        directory,
        segments,
        lock,
        filesEnd,
        gaps,
        book,
        tally,
        lost,
        streamCreated: evicted.created,
        knownLog,
      });
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** The next messages; empty when there are none for a while. */
  async pull(): Promise<LogMessage[]> {
    try {
      return await this.reader.pull(PULL_WAIT_MS);
    } catch (error) {
      if (!(error instanceof StreamLostError)) throw error;
      await this.readAnew('the stream does not exist any more');
      return [];
    }
  }

  /** Brings messages into the files, one append for all of them, and does the upkeep when it is due. */
  async take(messages: readonly LogMessage[]): Promise<void> {
    const entries: Entry[] = [];
    const holes: Hole[] = [];
    let handled = this.handled;
    let carrier = this.carrier;
    let handledBytes = this.handledBytes;
    let isBroken = false;
    this.isLogFresh = false;
    for (const message of messages) {
      const outcome = await this.handle(message, entries, holes);
      if (outcome === 'chain_broken') {
        isBroken = true;
        break;
      }
      handled = message.seq;
      handledBytes += message.data.length;
      if (outcome === 'carrier') carrier = message.seq;
      this.lag = message.pending;
    }
    if (!(await this.append(entries))) return;
    this.handled = handled;
    this.carrier = carrier;
    this.handledBytes = handledBytes;
    this.synced = this.intake.position;
    this.custody = this.countCustody();
    await this.remember(holes.map(gapOfHole));
    // From the beginning: a server that lost the end of the stream gives its sequences out again, positions it cannot.
    if (isBroken) this.reader.seek(1);
    await this.upkeepWhenDue();
  }

  async close(): Promise<void> {
    await this.reader.close();
    try {
      await this.segments.close();
    } finally {
      await this.parts.lock.release();
    }
  }

  get health(): Health {
    const problems: string[] = [];
    const isConnected = this.parts.link.isConnected();
    if (!isConnected) problems.push('NATS is not reachable: nothing new is spilled until it is back');
    if (this.diskProblem !== null) problems.push(this.diskProblem);
    const { behind } = this;
    if (behind !== null) {
      problems.push(
        `stream ${this.stream} has gone back behind the segments: it ends at ${behind.newest.seq} of log ${behind.newest.log}, the segments at ${behind.files.seq} of log ${behind.files.log}. What it carries is skipped. A backup of the NATS volume was restored; move ${this.parts.directory} away, or delete the SAMPLES stream to begin a new log`,
      );
    }
    if (this.newestHole !== null) {
      const { from, to } = this.newestHole;
      problems.push(`positions ${from} to ${to - 1} never came: their rows are lost (${this.counters['holes']} holes since the start)`);
    }
    if (this.parts.tally.quarantined > 0) {
      problems.push(
        `${this.parts.tally.quarantined} files could not be read and were moved to ${join(this.parts.directory, 'quarantine')}: look at them`,
      );
    }
    return { ready: isConnected && this.diskProblem === null && behind === null, problems };
  }

  info(): SpilloverInfo {
    return {
      shard: this.shard,
      position: this.synced,
      segments: this.segments.segments().length,
      bytes: this.segments.diskBytes,
      budget_bytes: this.parts.config.metrics.spillover_max_bytes,
      lag: this.lag,
      custody: this.custody,
      counters: { ...this.counters, ...this.parts.tally.counters },
      health: this.health,
    };
  }

  /** While there is more to read, what has been read of a stream says nothing about its end. */
  private get behind(): Behind | null {
    return this.lag === 0 ? this.intake.behind : null;
  }

  private async handle(message: LogMessage, entries: Entry[], holes: Hole[]): Promise<'carrier' | 'empty' | 'chain_broken'> {
    const event = await this.decode(message);
    if (event === null) return 'empty';
    const { position } = this.intake;
    const taken = this.intake.take(event);
    switch (taken.kind) {
      case 'rejected':
        this.reject('bad_event', taken.detail, message);
        return 'empty';
      case 'older_log':
        this.count('older_log_rows', taken.rows);
        this.throttled('older_log', (times) =>
          this.parts.logger.error({ log: event.log, rows: taken.rows, times }, 'rows of a log older than the newest segment are skipped'),
        );
        return 'empty';
      case 'chain_broken':
        this.parts.logger.warn(
          { expected: taken.expected, from: taken.from },
          'an event does not begin where the last ended, reading again',
        );
        return 'chain_broken';
      case 'accepted':
        if (taken.hole !== null) holes.push(taken.hole);
        this.carried.take(event, position, taken.rows, () => this.heldRows(event.log) + rowsOf(entries, event.log));
        for (const entry of taken.entries) {
          entries.push(entry);
          this.count('bytes', entry.bytes.length);
        }
        this.count('events', 1);
        this.count('rows', taken.rows);
        this.count('duplicate_rows', taken.duplicateRows);
        // Rows that the files have already carry the position as well as new ones do.
        return taken.rows + taken.duplicateRows > 0 ? 'carrier' : 'empty';
    }
  }

  private async decode(message: LogMessage): Promise<EvictionEvent | null> {
    const header = (name: string): string => message.headers?.get(name) ?? '';
    const head = parseEvictionHead(header);
    const event = head.ok ? checkEvictionBody(head.value, message.data) : head;
    if (!event.ok) {
      this.reject(event.reason, event.detail, message);
      return null;
    }
    const isMarked = isFromStore(header, message.seq);
    const problem = this.futureProblem(event.value) ?? (isMarked ? null : await this.strayProblem(event.value));
    if (problem === null) return event.value;
    this.reject('bad_event', problem, message);
    return null;
  }

  /** Believed, it would make every real event one of an older log. */
  private futureProblem({ log }: EvictionEvent): string | null {
    return log > logMax(this.knownLog) ? `log ${log} lies in the future` : null;
  }

  private async strayProblem(event: EvictionEvent): Promise<string | null> {
    if (!this.isLogFresh && (isUnknown(this.knownLog) || isBeyond(event, this.knownLog))) {
      const { link, config, logger, stopping } = this.parts;
      const { samples } = await retryUnanswered(() => ensureShard(link.jsm, link.subjects, config.nats, this.shard), logger, stopping);
      this.knownLog = knownLogOf(samples);
      this.isLogFresh = true;
    }
    return strayProblem(event, this.knownLog);
  }

  private reject(reason: RejectReason, detail: string, message: LogMessage): void {
    this.count('rejected_messages', 1);
    this.count(`rejected_${reason}`, 1);
    this.throttled(reason, (times) =>
      this.parts.logger.error({ reason, detail, subject: message.subject, sequence: message.seq, times }, 'an eviction event was refused'),
    );
    publishRejected(this.parts.link, reason, message.subject, message.data);
  }

  /** Brings entries into the files. False when told to stop before it was done: the stream still has it all. */
  private async append(entries: readonly Entry[]): Promise<boolean> {
    const { book, config } = this.parts;
    const { log, isCounted, uncountedRows } = this.carried;
    // Without a count there is nothing to remember: the last event says so again.
    if (log !== null && isCounted) book.noteUncounted(log, uncountedRows);
    await book.save();
    // What one append writes, the budget must not delete before it is synced: its rows could be counted twice if it fails then.
    // With the active segment, which is half of the budget at most, this much always fits.
    for (const chunk of chunksOf(entries, Math.floor(segmentBudget(config) / 2))) {
      if (!(await this.appendWhole(chunk))) return false;
      await book.save();
    }
    return true;
  }

  /** Tries for as long as the disk is full. */
  private async appendWhole(entries: readonly Entry[]): Promise<boolean> {
    const { logger, stopping } = this.parts;
    for (let waitMs = DISK_FULL_RETRY_MS_MIN; ; waitMs = Math.min(2 * waitMs, DISK_FULL_RETRY_MS_MAX)) {
      try {
        await this.segments.append(entries);
        if (this.diskProblem !== null) logger.info('there is room on the disk again, going on');
        this.diskProblem = null;
        return true;
      } catch (error) {
        if (!(error instanceof DiskFullError)) throw error;
        this.diskProblem = `${this.parts.directory} cannot be written (${error.reason}): reading has stopped, rows wait in NATS. Make room; it goes on by itself`;
        this.throttled('disk_full', (times) => logger.error({ reason: error.reason, times }, this.diskProblem ?? ''));
        await pause(waitMs, stopping);
        if (stopping.aborted) return false;
      }
    }
  }

  private async upkeepWhenDue(): Promise<void> {
    const isMuchHandled = this.handledBytes >= PURGE_SHARE * this.parts.config.nats.evicted_max_bytes;
    if (!isMuchHandled && Date.now() - this.upkeepMs < UPKEEP_INTERVAL_MS) return;
    this.upkeepMs = Date.now();
    this.handledBytes = 0;
    await this.rescan();
    if (!this.parts.link.isConnected()) return; // a question would be lost, and its timeout waited for when NATS is back
    try {
      await this.observeStream();
    } catch (error) {
      if (!isUnanswered(error) && this.parts.link.isConnected()) throw error;
      this.parts.logger.debug({ reason: messageOf(error) }, 'upkeep was not answered, trying again');
    }
    const { behind } = this;
    if (behind !== null)
      this.throttled('behind', (times) => this.parts.logger.error({ times, ...behind }, this.health.problems.join('; ')));
  }

  private async rescan(): Promise<void> {
    try {
      await this.segments.rescan();
    } catch (error) {
      if (!(error instanceof DiskFullError)) throw error;
      this.parts.logger.warn({ reason: error.reason }, error.message);
    }
    this.custody = this.countCustody();
    await this.remember(this.parts.lost.splice(0));
  }

  /** Rows of a log that are in segments, deleted by the budget, or dropped. */
  private heldRows(log: number): number {
    const { book } = this.parts;
    return this.segmentRows(log) + book.deletedRows(log) + book.droppedRows(log);
  }

  private segmentRows(log: number): number {
    const { book } = this.parts;
    return this.segments.rowsIn((segment) => segment.log === log && !book.isDeleted(segment));
  }

  private countCustody(): SpilloverCustody {
    const { book } = this.parts;
    const { log, rows, uncountedRows } = this.carried;
    return {
      log,
      carried_rows: rows,
      uncounted_rows: uncountedRows,
      segment_rows: log === null ? 0 : this.segmentRows(log),
      deleted_rows: log === null ? 0 : book.deletedRows(log),
      dropped_rows: log === null ? 0 : book.droppedRows(log),
      older_log_rows: this.segments.rowsIn((segment) => segment.log !== log),
    };
  }

  /** Notices a stream that is another one or has gone back, and purges what is in the files. */
  private async observeStream(): Promise<void> {
    const { jsm } = this.parts.link;
    const info = await jsm.streams.info(this.stream).catch((error: unknown) => {
      if (isStreamNotFound(error)) return null;
      throw error;
    });
    if (info === null) return this.readAnew('the stream does not exist any more');
    const isOther = this.streamCreated !== info.created;
    if (isOther) return this.readAnew('the stream is another one');
    if (info.state.last_seq < this.handled) return this.readAnew('the stream has gone back');
    this.lag = info.state.last_seq - this.handled;
    if (this.carrier <= Math.max(this.purged, info.state.first_seq)) return;
    await purgeBelow(jsm, this.stream, this.carrier);
    this.purged = this.carrier;
  }

  /** Stream sequences mean nothing any more; positions do. What the files have is skipped. */
  private async readAnew(why: string): Promise<void> {
    const { link, config, logger } = this.parts;
    logger.error({ stream: this.stream, handled: this.handled }, `${why}: reading from its beginning`);
    // Seen with 2.9.10: a stream that is made while its deletion is still under way may never deliver anything.
    await pause(DELETION_MS, this.parts.stopping);
    const made = () => ensureShard(link.jsm, link.subjects, config.nats, config.shard);
    const { evicted, samples } = await retryUnanswered(made, logger, this.parts.stopping);
    this.streamCreated = evicted.created;
    this.knownLog = knownLogOf(samples);
    this.handled = 0;
    this.carrier = 0;
    this.purged = 0;
    this.reader.seek(1);
  }

  private async remember(gaps: readonly Gap[]): Promise<void> {
    for (const gap of gaps) {
      if (gap.reason === 'hole') {
        this.count('holes', 1);
        this.newestHole = { log: gap.log, from: gap.from, to: gap.to, fromMs: gap.from_ms, toMs: gap.to_ms };
        this.parts.logger.error({ ...gap }, 'positions are missing: their rows are lost');
      }
      try {
        await this.parts.gaps.add(gap);
      } catch (error) {
        this.parts.logger.warn({ reason: messageOf(error) }, 'a gap could not be written down; it is known until this process ends');
      }
    }
  }

  private count(name: string, by: number): void {
    this.counters[name] = (this.counters[name] ?? 0) + by;
  }
}

function knownLogOf(samples: Parameters<typeof logIdentity>[0]): KnownLog {
  return { log: logIdentity(samples), end: samples.state.last_seq + 1 };
}

/** The latest log that is believed. */
function logMax(known: KnownLog): number {
  return Math.max(known.log, Date.now() + LOG_AHEAD_MS_MAX);
}

/** Waits while another process has the directory, so that this one takes over when that ends. */
async function takeDirectory({ logger, stopping, disk }: SpillShardOptions, directory: string): Promise<DirectoryLock> {
  const throttled = createThrottledLog(LOG_INTERVAL_MS, Date.now);
  for (;;) {
    try {
      return await lockDirectory(directory, disk);
    } catch (error) {
      if (error instanceof DirectoryRefusedError) throw new SetupError(error.message);
      if (!(error instanceof DirectoryInUseError) && !(error instanceof DiskFullError)) throw error;
      throttled(error.name, (times) => logger.error({ times }, `${error.message}. Waiting`));
      await pause(error instanceof DiskFullError ? DISK_FULL_RETRY_MS_MAX : IN_USE_RETRY_MS, stopping);
      stopping.throwIfAborted();
    }
  }
}

async function openSegments(
  options: SpillShardOptions,
  directory: string,
  knownLog: KnownLog,
  onEvent: (event: SegmentEvent) => void,
): Promise<{ segments: SegmentLog; book: CustodyBook }> {
  const { config, logger, stopping, disk } = options;
  for (;;) {
    try {
      const book = await CustodyBook.open(disk, directory);
      const segments = await openSegmentLog({
        directory,
        prefix: SEGMENT_PREFIX,
        bytesMax: segmentBudget(config),
        segmentBytesMax: Math.min(config.metrics.spillover_segment_bytes, Math.floor(segmentBudget(config) / 2)),
        format: createRowFormat(),
        onEvent: (event) => {
          onEvent(event);
          if (event.event === 'rows_dropped') book.noteDropped(event.log, event.seq, event.rows);
        },
        beforeDeletion: (segment) => book.noteDeleted(segment),
        disk,
        logMax: logMax(knownLog),
      });
      return { segments, book };
    } catch (error) {
      if (error instanceof DirectoryRefusedError || error instanceof SegmentLimitError) throw new SetupError(error.message);
      if (!(error instanceof DiskFullError)) throw error;
      logger.error({ reason: error.reason }, `${error.message}: waiting for room`);
      await pause(DISK_FULL_RETRY_MS_MAX, stopping);
      stopping.throwIfAborted();
    }
  }
}

/** The rows of the last position: the intake needs to know which they are. */
async function readFilesEnd(segments: SegmentLog): Promise<FilesEnd | null> {
  const end = segments.position;
  if (end === null) return null;
  const format = createRowFormat();
  const lines: Buffer[] = [];
  let toMs: number | null = null;
  for (const segment of segments.segments()) {
    if (segment.log !== end.log || segment.last < end.seq) continue;
    toMs = segment.toMs;
    for await (const block of segments.read(segment)) {
      forEachLine(block, (start, stop) => {
        if (format.seqOf(block, start, stop) === end.seq) lines.push(Buffer.from(block.subarray(start, stop + 1)));
        return true;
      });
    }
  }
  return { log: end.log, seq: end.seq, lines, toMs };
}

/** The part of the budget for segments: what is on disk includes the book. */
function segmentBudget({ metrics }: Config): number {
  return metrics.spillover_max_bytes - BOOK_BYTES_MAX;
}

/** In order, each no larger than that but for a single larger entry. */
function* chunksOf(entries: readonly Entry[], bytesMax: number): Generator<Entry[]> {
  let chunk: Entry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (chunk.length > 0 && bytes + entry.bytes.length > bytesMax) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(entry);
    bytes += entry.bytes.length;
  }
  if (chunk.length > 0) yield chunk;
}

function rowsOf(entries: readonly Entry[], log: number): number {
  return entries.reduce((rows, entry) => (entry.log === log ? rows + entry.rows : rows), 0);
}

function gapOfHole({ log, from, to, fromMs, toMs }: Hole): Gap {
  return { log, from, to, from_ms: fromMs, to_ms: toMs, reason: 'hole' };
}

function gapOfLost({
  log,
  first,
  last,
  fromMs,
  toMs,
}: {
  log: number;
  first: number;
  last: number;
  fromMs: number | null;
  toMs: number | null;
}): Gap {
  return { log, from: first, to: last + 1, from_ms: fromMs, to_ms: toMs, reason: 'lost' };
}
