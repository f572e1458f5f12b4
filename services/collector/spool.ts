// The spool on disk: writes what the outbox lets go of to a segment log, reads it again when NATS is there, and deletes whole
// segments of which everything is acknowledged. It decides nothing about batches: the outbox does. Invariant: a batch leaves
// memory only when it is synced on disk, and its file goes only when it is acknowledged or counted as dropped.
// Nothing here fails the collector: what goes wrong is a sentence in `problem`, the batches stay in memory, and it is tried
// again. Files are not held by what is read from them, so a directory that comes and goes is only a hole that is counted.

import { join } from 'node:path';
import { encodeToken } from '#shared/contract/series';
import { type DirectoryLock, lockDirectory } from '#shared/runtime/directory-lock';
import { createThrottledLog, type Logger } from '#shared/runtime/logging';
import type { Entry } from '#shared/segments/append-plan';
import { type Disk, realDisk } from '#shared/segments/disk';
import { Exclusive } from '#shared/segments/exclusive';
import { forEachLine } from '#shared/segments/record-format';
import { DiskFailedError, SegmentUnreadableError, textOf } from '#shared/segments/segment-errors';
import type { SegmentEvent } from '#shared/segments/segment-events';
import { openSegmentLog, type SegmentLog, type SegmentSummary } from '#shared/segments/segment-log';
import type { Outbox, SpoolOccasion } from './core/outbox.ts';
import { decodeRecord, encodeRecord, type SpoolRecord, spoolFormat } from './core/spool-record.ts';

const SPOOL_PREFIX = 'spool';
/** A segment is what is sent again after a kill: small, but not so small that a full spool is ten thousand files. */
const SEGMENT_BYTES_MOST = 1024 * 1024;
const SEGMENT_BYTES_LEAST = 4096;
/** A segment is the unit of deletion: this part of the spool is lost at a time when it is full. */
const SEGMENTS_PER_SPOOL = 8;
/** And what is read at a time must have room in memory. */
const SEGMENTS_PER_OUTBOX = 4;
const RETRY_MS = 5_000;
const NOT_YET_OPEN = 'the spool is still being opened: what a former collector left in it is not known yet';
const RESCAN_MS = 30_000;
const LOG_INTERVAL_MS = 60_000;
/** Clocks are set back, but not by more. */
const LOG_AHEAD_MS_MAX = 86_400_000;

export interface SpoolOptions {
  readonly path: string;
  readonly host: string;
  readonly bytesMax: number;
  readonly outboxBytesMax: number;
  readonly outbox: Outbox;
  readonly logger: Logger;
  readonly disk?: Disk | undefined;
}

export class Spool {
  readonly directory: string;
  readonly #options: SpoolOptions;
  readonly #rounds = new Exclusive();
  readonly #throttled = createThrottledLog(LOG_INTERVAL_MS, () => performance.now());
  #log: SegmentLog | null = null;
  #lock: DirectoryLock | null = null;
  /** Of the files, not of a process: a restarted collector goes on in it. */
  #logId = Date.now();
  #problem: string | null = NOT_YET_OPEN;
  #retryMs = Number.NEGATIVE_INFINITY;
  /** Apart: a full disk can still be read. */
  #loadRetryMs = Number.NEGATIVE_INFINITY;
  #rescanMs = 0;
  #deletedBelow = 0;
  #isLoading = false;
  /** Position of the newest record that was deleted to make room; -1 before the first. */
  #deletedTo = -1;
  /** Records read of the segment that begins at `first`. */
  #readOf = { first: -1, records: 0 };
  #quarantined = 0;

  constructor(options: SpoolOptions) {
    this.#options = options;
    // A directory for each host: two collectors that are given the same path do not share a log.
    this.directory = join(options.path, encodeToken(options.host));
  }

  /** What is wrong with the spool at present, as a sentence; null when it is open and works. */
  get problem(): string | null {
    return this.#problem;
  }
  get diskBytes(): number {
    return this.#log?.diskBytes ?? 0;
  }
  /** Batches on disk that are not in memory. */
  get waitingBatches(): number {
    const log = this.#log;
    if (log === null) return 0;
    const { read } = this.#options.outbox.spool;
    return this.#segmentsOf(log).reduce((batches, { first, last, rows }) => {
      if (last < read) return batches;
      return batches + rows - (first === this.#readOf.first ? this.#readOf.records : 0);
    }, 0);
  }
  /** Files that could not be read and were moved aside since the start. */
  get quarantined(): number {
    return this.#quarantined;
  }

  /** Opens what is not open, writes what is due, deletes what is done with. Never rejects. */
  round(occasion: SpoolOccasion): Promise<void> {
    return this.#rounds.run(async () => {
      const nowMs = performance.now();
      if (nowMs < this.#retryMs) return;
      const isDone = await this.#attempt(async () => {
        this.#log ??= await this.#open();
        await this.#write(this.#log, occasion);
        await this.#deleteDone(this.#log);
        if (nowMs >= this.#rescanMs) {
          this.#rescanMs = nowMs + RESCAN_MS;
          await this.#log.rescan();
        }
        this.#accountForDeleted(this.#log);
      });
      if (isDone && this.#problem !== null && this.#problem !== NOT_YET_OPEN)
        this.#options.logger.info({ directory: this.directory }, 'the spool works again');
      if (isDone) this.#problem = null;
      else this.#retryMs = performance.now() + RETRY_MS;
    });
  }

  /** Reads the oldest batches into the outbox. Never rejects. @returns whether there are more to publish now */
  async load(): Promise<boolean> {
    const { outbox } = this.#options;
    const log = this.#log;
    if (log === null || this.#isLoading || performance.now() < this.#loadRetryMs) return false;
    this.#isLoading = true;
    const before = outbox.batches;
    try {
      const isDone = await this.#attempt(async () => {
        const end = outbox.spool.end;
        const records = await this.#read(log, outbox.spool.read, outbox.loadBytes);
        const below = records[0]?.seq ?? end;
        // Writing goes on meanwhile. What it is deleting to make room is told when it is done, and a rescan comes after that.
        if (below > outbox.spool.read) await log.rescan();
        this.#discardBelow(below);
        const isWhole = outbox.loaded(records, performance.now());
        this.#noteRead(
          log,
          records.filter(({ seq }) => seq < outbox.spool.read),
        );
        if (!isWhole) return;
        const last = records.at(-1);
        // Normally nothing is left below; records that could not be read are, and are lost.
        if (last !== undefined) this.#discardBelow(last.seq + last.rows);
      });
      if (!isDone) this.#loadRetryMs = performance.now() + RETRY_MS;
    } finally {
      this.#isLoading = false;
    }
    return outbox.batches > before;
  }

  /** Writes everything that is only in memory, and closes. Never rejects. */
  async finish(): Promise<void> {
    this.#retryMs = Number.NEGATIVE_INFINITY; // the last chance
    await this.round('ending');
    await this.#rounds.run(() => this.#close());
  }

  async #attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      const problem = `the spool cannot be used, batches are kept in memory alone: ${textOf(error)}`;
      this.#problem = problem;
      this.#throttled('problem', (times) => this.#options.logger.error({ directory: this.directory, times }, problem));
      // What is on a disk that has failed is known only after opening again.
      if (this.#log !== null && (this.#log.failed !== null || error instanceof DiskFailedError)) await this.#close();
      return false;
    }
  }

  async #close(): Promise<void> {
    const log = this.#log;
    this.#log = null;
    await log?.close().catch(() => undefined);
    await this.#lock?.release();
    this.#lock = null;
  }

  async #open(): Promise<SegmentLog> {
    const { bytesMax, outboxBytesMax, outbox, logger, disk = realDisk } = this.#options;
    const segmentBytesMax = Math.floor(Math.min(SEGMENT_BYTES_MOST, bytesMax / SEGMENTS_PER_SPOOL, outboxBytesMax / SEGMENTS_PER_OUTBOX));
    this.#lock ??= await lockDirectory(this.directory, disk);
    const log = await openSegmentLog({
      directory: this.directory,
      prefix: SPOOL_PREFIX,
      bytesMax,
      segmentBytesMax: Math.max(SEGMENT_BYTES_LEAST, segmentBytesMax),
      format: spoolFormat,
      onEvent: (event) => this.#note(event),
      disk,
      logMax: Date.now() + LOG_AHEAD_MS_MAX,
    });
    try {
      if (log.position !== null) this.#logId = log.position.log;
      const own = this.#segmentsOf(log);
      const strangers = log.segments().length - own.length;
      if (strangers > 0) logger.warn({ directory: this.directory, segments: strangers }, 'segments of another log are left alone');
      const foundBefore = outbox.spool.foundRows;
      outbox.spool.opened(own[0]?.first ?? 0, await this.#endOf(log, own));
      const found = outbox.spool.foundRows - foundBefore;
      if (found > 0) logger.info({ directory: this.directory, rows: found }, 'going on with the batches that were left in the spool');
      return log;
    } catch (error) {
      await log.close().catch(() => undefined);
      throw error;
    }
  }

  /** The position after the newest record. */
  async #endOf(log: SegmentLog, own: readonly SegmentSummary[]): Promise<number> {
    const newest = own.at(-1);
    let end = newest === undefined ? 0 : newest.last + 1;
    if (newest === undefined) return end;
    for await (const block of log.read(newest)) {
      forEachLine(block, (start, lineEnd) => {
        const record = decodeRecord(block, start, lineEnd);
        if (record !== null) end = Math.max(end, record.seq + record.rows);
        return true;
      });
    }
    return end;
  }

  async #write(log: SegmentLog, occasion: SpoolOccasion): Promise<void> {
    const { outbox } = this.#options;
    for (;;) {
      const records = outbox.takeForSpool(performance.now(), occasion);
      if (records.length === 0) return;
      try {
        await log.append(records.map((record) => this.#entryOf(record)));
      } catch (error) {
        outbox.notSpooled();
        throw error;
      }
      outbox.spooled();
      this.#accountForDeleted(log);
    }
  }

  #entryOf(record: SpoolRecord): Entry {
    const bytes = encodeRecord(record);
    const timeMs = spoolFormat.timeOf(bytes, 0, bytes.length);
    return { log: this.#logId, seq: record.seq, rows: 1, bytes, fromMs: timeMs, toMs: timeMs };
  }

  async #deleteDone(log: SegmentLog): Promise<void> {
    const { doneBelow } = this.#options.outbox.spool;
    if (doneBelow === this.#deletedBelow) return;
    await log.deleteBelow(this.#logId, doneBelow);
    this.#deletedBelow = doneBelow;
  }

  /** Segments that went to make room, or that somebody else has deleted: what was still to be sent of them is lost. */
  #accountForDeleted(log: SegmentLog): void {
    this.#discardBelow(this.#segmentsOf(log)[0]?.first ?? this.#options.outbox.spool.end);
  }

  /** @param records of one segment, in order */
  #noteRead(log: SegmentLog, records: readonly SpoolRecord[]): void {
    const last = records.at(-1);
    if (last === undefined) return;
    const first = this.#segmentsOf(log).findLast((segment) => segment.first <= last.seq)?.first ?? -1;
    this.#readOf = { first, records: records.length + (first === this.#readOf.first ? this.#readOf.records : 0) };
  }

  /** What is still to be read below a position is not there any more. */
  #discardBelow(seq: number): void {
    const { outbox, logger } = this.#options;
    const reason = outbox.spool.read <= this.#deletedTo ? 'spool_full' : 'spool_lost';
    const rows = outbox.spool.discardBelow(seq, reason);
    if (rows === 0) return;
    this.#throttled(reason, () =>
      reason === 'spool_full'
        ? logger.warn(
            { dropped_rows_total: outbox.droppedRows.spool_full, spool_bytes: this.diskBytes },
            'the spool is full, its oldest batches are dropped',
          )
        : logger.error(
            { dropped_rows: rows, directory: this.directory },
            'batches that were in the spool are not there any more: somebody deleted them, or they cannot be read',
          ),
    );
  }

  /** The records from a position on: of one segment, until there are enough bytes, at least one if there is any. */
  async #read(log: SegmentLog, from: number, bytesMax: number): Promise<SpoolRecord[]> {
    for (const segment of this.#segmentsOf(log)) {
      if (segment.last < from) continue;
      const records: SpoolRecord[] = [];
      let bytes = 0;
      try {
        for await (const block of log.read(segment)) {
          forEachLine(block, (start, end) => {
            const record = decodeRecord(block, start, end);
            if (record === null || record.seq < from) return true;
            records.push(record);
            bytes += record.payload.length;
            return bytes < bytesMax;
          });
          if (records.length > 0 && bytes >= bytesMax) break;
        }
      } catch (error) {
        if (!(error instanceof SegmentUnreadableError)) throw error;
        await log.setAside(segment.name, error.message);
        // The file being appended to stays; opening again finds out what of it is good.
        if (log.segments().some(({ name }) => name === segment.name)) throw new DiskFailedError('read the spool', error);
      }
      if (records.length > 0) return records;
    }
    return [];
  }

  #segmentsOf(log: SegmentLog): SegmentSummary[] {
    return log.segments().filter((segment) => segment.log === this.#logId);
  }

  #note(event: SegmentEvent): void {
    const { logger } = this.#options;
    switch (event.event) {
      case 'segment_deleted':
        if (event.segment.log === this.#logId) this.#deletedTo = Math.max(this.#deletedTo, event.segment.last);
        break;
      case 'quarantined':
        this.#quarantined++;
        logger.error({ segment: event.name, moved_to: event.movedTo, problem: event.problem }, 'what cannot be read was moved aside');
        break;
      case 'segment_lost':
        logger.error({ segment: event.segment.name }, 'a segment of the spool is gone: somebody else deleted it');
        break;
      case 'tail_cut':
        logger.info({ segment: event.name, bytes: event.bytes }, 'a torn end was cut off: it had never been acknowledged');
        break;
      default:
        logger.debug({ ...event }, 'the spool');
        break;
    }
  }
}
