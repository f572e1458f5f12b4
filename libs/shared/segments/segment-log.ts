// The segment log: an append-only log of lines on disk, in segments, within a hard budget. It knows nothing of what the
// lines say beyond a position and a time, and nothing of where they come from. docs/formats/segment.md has the files.
//
// Invariants:
//   1. What `append` has resolved for is durable, once, in order, until the budget deletes its whole segment (told as an event).
//   2. What `append` has rejected for with DiskFullError is not in the log; the same append may be tried again.
//   3. After DiskFailedError nothing is known but what opening again finds; this object refuses everything.
//   4. The sizes of our files never exceed `bytesMax`, temporary ones included: room is made before each write, by deleting
//      the oldest whole segment; the active one never goes.
//   5. The position is read from the data. There is no other file to disagree with it.
//   6. Files that do not have our names are never counted, changed or deleted.
//
// One process per directory: whoever opens it holds its lock (libs/shared/runtime/directory-lock.ts). No timers, no clock: whoever owns it calls `rescan` now and then.

import { type Entry, joinNeighbours, type PlannedWrite, planAppend } from './append-plan.ts';
import { type Catalogue, compareSegments, type Segment } from './catalogue.ts';
import { type Disk, type DiskFile, isMissing, realDisk, writeWhole } from './disk.ts';
import { Exclusive } from './exclusive.ts';
import { readChunks, readGunzipped, wholeLines } from './line-blocks.ts';
import { scanLeniently } from './line-scan.ts';
import { addTimes, type RecordFormat } from './record-format.ts';
import { recoverDirectory, recoverSealed } from './recovery.ts';
import { Sealer } from './sealing.ts';
import {
  fileNames,
  fileSize,
  makeDirectory,
  openFile,
  pathOf,
  quarantineFile,
  removeFile,
  type SegmentDirectory,
  syncNames,
} from './segment-directory.ts';
import {
  DiskFailedError,
  isDamage,
  SegmentLimitError,
  SegmentUnreadableError,
  syncOrFail,
  typedDiskError,
  typedOpenError,
} from './segment-errors.ts';
import type { OnSegmentEvent, SegmentRange } from './segment-events.ts';
import { checkPrefix, LOG_MAX, parseSegmentName, rawName } from './segment-name.ts';

export interface SegmentLogOptions {
  readonly directory: string;
  /** First part of the file names. */
  readonly prefix: string;
  /** Budget for the sizes of all our files together. */
  readonly bytesMax: number;
  /** A segment is rotated before it would exceed this; at most half of `bytesMax`. */
  readonly segmentBytesMax: number;
  readonly format: RecordFormat;
  readonly onEvent: OnSegmentEvent;
  /** Awaited before the budget deletes a segment, so that the owner can write it down first; may be called again for the same one. */
  readonly beforeDeletion?: (segment: SegmentRange) => Promise<void>;
  readonly disk?: Disk;
  /** Segments of a later log are moved aside at opening. Absent: whatever fits a name is believed. */
  readonly logMax?: number;
}

/** Where the log ends: the position of its newest record, and how many records of that position it has. */
export interface EndPosition {
  readonly log: number;
  readonly seq: number;
  readonly rowsOfSeq: number;
}

export type SegmentSummary = Readonly<Segment>;

/** A rescan looks at this many files at once: it holds up appends. */
const STATS_AT_ONCE = 32;

/** A segment that this append has written to: what to undo if it fails. */
interface Touched {
  readonly segment: Segment;
  readonly file: DiskFile;
  /** The segment as it was; null when this append made it. */
  readonly before: Segment | null;
  isDeleted: boolean;
}

interface Active {
  readonly segment: Segment;
  readonly file: DiskFile;
}

/**
 * Opens a directory, which need not exist, repairing what it finds.
 * @throws {SegmentLimitError} if the segment limit does not fit the budget
 * @throws {DirectoryRefusedError} if the directory cannot be used
 * @throws {DiskFullError} if a repair needs room that there is not; try again later
 * @throws {DiskFailedError} if the disk failed
 */
export async function openSegmentLog(options: SegmentLogOptions): Promise<SegmentLog> {
  checkPrefix(options.prefix);
  if (options.segmentBytesMax > options.bytesMax / 2) throw new SegmentLimitError(options.segmentBytesMax, options.bytesMax);
  const directory: SegmentDirectory = {
    path: options.directory,
    prefix: options.prefix,
    disk: options.disk ?? realDisk,
    format: options.format,
    onEvent: options.onEvent,
  };
  let log: SegmentLog | null = null;
  try {
    log = new SegmentLog(directory, options, await recoverDirectory(directory, options.logMax ?? LOG_MAX));
    await log.start();
    return log;
  } catch (error) {
    await log?.close().catch(() => undefined);
    throw typedOpenError(options.directory, error);
  }
}

export class SegmentLog {
  private readonly directory: SegmentDirectory;
  private readonly bytesMax: number;
  private readonly segmentBytesMax: number;
  private readonly beforeDeletion: SegmentLogOptions['beforeDeletion'];
  private readonly catalogue: Catalogue;
  private readonly exclusive = new Exclusive();
  private readonly sealer: Sealer;
  private active: Active | null = null;
  private end: EndPosition | null = null;
  private failure: DiskFailedError | null = null;
  private isClosing = false;
  private sealing: Promise<void> | null = null;
  /** Raw segments that could not be sealed; tried again after the next rotation. */
  private readonly putOff = new Set<Segment>();

  /** Use {@link openSegmentLog}. */
  constructor(directory: SegmentDirectory, options: SegmentLogOptions, catalogue: Catalogue) {
    this.directory = directory;
    this.bytesMax = options.bytesMax;
    this.segmentBytesMax = options.segmentBytesMax;
    this.beforeDeletion = options.beforeDeletion;
    this.catalogue = catalogue;
    this.sealer = new Sealer({
      directory,
      exclusive: this.exclusive,
      isWanted: (segment) => !this.isClosing && this.failure === null && catalogue.has(segment),
      makeRoom: (bytes, olderThan) => this.makeRoom(bytes, [], olderThan),
      renamed: (segment, name) => {
        segment.name = name;
        segment.isSealed = true;
      },
      replaced: (segment, diskBytes) => this.replaced(segment, diskBytes),
    });
  }

  /** Null while the log is empty. */
  get position(): EndPosition | null {
    return this.end;
  }

  /** Sizes of all our files. */
  get diskBytes(): number {
    return this.catalogue.diskBytes + this.sealer.temporaryBytes;
  }

  /** Why the log refuses to work; null while it does not. */
  get failed(): DiskFailedError | null {
    return this.failure;
  }

  /** Oldest first; those with something durable in them. */
  segments(): SegmentSummary[] {
    return this.catalogue.oldestFirst.filter((segment) => segment.isSealed || segment.syncedBytes > 0).map((segment) => ({ ...segment }));
  }

  /** Rows in the segments that a predicate picks; while an append is under way, perhaps with some of it. */
  rowsIn(isWanted: (segment: SegmentSummary) => boolean): number {
    return this.catalogue.oldestFirst.reduce((rows, segment) => (isWanted(segment) ? rows + segment.rows : rows), 0);
  }

  /** Second half of opening. */
  async start(): Promise<void> {
    const { newest } = this.catalogue;
    if (newest !== null && !newest.isSealed) {
      const file = await openFile(this.directory, newest.name, 'r+');
      if (file === null) this.catalogue.remove(newest);
      else this.active = { segment: newest, file };
    }
    this.end = await this.readEnd();
    await this.makeRoom(0, []);
    this.startSealing();
  }

  /**
   * Appends records and resolves when they are durable. All of it or nothing, but for records that cannot fit the budget: those
   * are dropped and told as `rows_dropped`. Entries are in order and not below {@link position}.
   * @throws {DiskFullError} nothing of it is in the log
   * @throws {DiskFailedError} the log refuses everything from here on
   */
  append(entries: readonly Entry[]): Promise<void> {
    return this.exclusive.run(async () => {
      this.assertUsable();
      this.assertOrder(entries);
      await this.guarded('append', () => this.checkActive());
      const { active } = this;
      const end = active === null ? null : { log: active.segment.log, last: active.segment.last, bytes: active.segment.diskBytes };
      const late = entries.filter((entry) => this.isInSealedSegment(entry));
      const plan = planAppend(entries.slice(late.length), end, this.segmentBytesMax, this.bytesMax);
      await this.perform(plan.writes);
      this.tellDropped(late, 'sealed');
      this.tellDropped(plan.oversize, 'over_budget');
      this.advance(entries);
    });
  }

  /** Corrects the books by what is in the directory: files that others have deleted, or put back. */
  rescan(): Promise<void> {
    return this.exclusive.run(async () => {
      this.assertUsable();
      await this.guarded('rescan', async () => {
        await this.checkActive();
        const names = await fileNames(this.directory).catch((error: unknown) => {
          if (isMissing(error)) return [];
          throw error;
        });
        await this.forgetLost(new Set(names));
        await this.correctSizes();
        await this.adopt(names);
        await this.makeRoom(0, []);
      });
    });
  }

  /**
   * The records of a segment, in blocks of whole lines, up to what is durable now. Goes on through sealing and deletion: a
   * segment that is gone before reading starts has no records.
   * @throws {SegmentUnreadableError} where the contents are damaged
   */
  async *read(summary: SegmentSummary): AsyncGenerator<Buffer> {
    const opened = await this.openForReading(summary);
    if (opened === null) return;
    const { file, name, isSealed, syncedBytes } = opened;
    try {
      yield* wholeLines(isSealed ? readGunzipped(file) : readChunks(file, 0, syncedBytes));
    } catch (error) {
      throw isDamage(error) ? new SegmentUnreadableError(name, error) : error;
    } finally {
      await file.close();
    }
  }

  /** Moves a segment that cannot be read aside, and forgets it. The active one stays: opening again repairs it. */
  setAside(name: string, problem: string): Promise<void> {
    return this.exclusive.run(() => this.guarded(`set ${name} aside`, () => this.setAsideNow(name, problem)));
  }

  /**
   * Deletes the whole segments of a log whose records are all below a position, the active one included; one that holds the
   * position or anything above it stays as it is, and so do those of other logs. {@link position} does not move. Not told as an event: the owner has asked for it.
   * The removal is not synced: what a power failure brings back is below the position again, and is deleted again.
   * @returns number of segments deleted
   * @throws {DiskFailedError} the log refuses everything from here on
   */
  deleteBelow(log: number, seq: number): Promise<number> {
    return this.exclusive.run(async () => {
      this.assertUsable();
      const below = this.catalogue.oldestFirst.filter((segment) => segment.log === log && segment.last < seq);
      await this.guarded('delete segments', async () => {
        for (const segment of below) await this.deleteWanted(segment);
      });
      return below.length;
    });
  }

  /** Waits until sealing has stopped, and closes. Everything acknowledged is durable already. */
  async close(): Promise<void> {
    this.isClosing = true;
    await this.sealing;
    await this.exclusive.run(async () => {
      const { active } = this;
      this.active = null;
      await active?.file.close();
    });
  }

  private assertUsable(): void {
    if (this.failure !== null) throw this.failure;
    if (this.isClosing) throw new Error('the segment log is closed');
  }

  private assertOrder(entries: readonly Entry[]): void {
    let previous: { readonly log: number; readonly seq: number } | null = this.end;
    for (const entry of entries) {
      if (entry.log > LOG_MAX || !Number.isSafeInteger(entry.log) || !Number.isSafeInteger(entry.seq) || entry.log < 0 || entry.seq < 0)
        throw new RangeError(`append: log ${entry.log} position ${entry.seq} cannot be in a file name`);
      if (previous !== null && (entry.log < previous.log || (entry.log === previous.log && entry.seq < previous.seq)))
        throw new RangeError(`append: position ${entry.seq} of log ${entry.log} is below ${previous.seq} of log ${previous.log}`);
      previous = entry;
    }
  }

  /**
   * More of the batch that a sealed segment begins with: the name is taken, and what is sealed stays as it is. Only the first
   * entries can be such, because positions do not go back.
   */
  private isInSealedSegment({ log, seq }: Entry): boolean {
    if (this.end === null || log !== this.end.log || seq !== this.end.seq) return false;
    return this.catalogue.find(log, seq)?.isSealed === true;
  }

  private tellDropped(entries: readonly Entry[], reason: 'over_budget' | 'sealed'): void {
    for (const { log, seq, rows, bytes } of entries)
      this.directory.onEvent({ event: 'rows_dropped', reason, log, seq, rows, bytes: bytes.length });
  }

  private async perform(writes: readonly PlannedWrite[]): Promise<void> {
    const touched: Touched[] = [];
    try {
      for (const write of writes) await this.write(write, touched);
      await this.syncNewest(touched);
    } catch (error) {
      await this.rollBack(touched, error);
    }
    await this.commit(touched);
  }

  private async write(write: PlannedWrite, touched: Touched[]): Promise<void> {
    const first = write.entries[0] as Entry;
    const target = write.startsSegment ? await this.create(first, touched) : this.touchActive(touched);
    const { segment, file } = target;
    const at = segment.diskBytes;
    if (!(await this.makeRoom(write.bytes, touched))) throw new Error(`no room for ${write.bytes} bytes that were planned to fit`);
    this.catalogue.resize(segment, at + write.bytes);
    for (const entry of write.entries) {
      segment.rows += entry.rows;
      segment.contentBytes += entry.bytes.length;
      segment.last = entry.seq;
      addTimes(segment, entry.fromMs, entry.toMs);
    }
    await writeWhole(file, joinNeighbours(write.entries), at);
  }

  private touchActive(touched: Touched[]): Touched {
    const { segment, file } = this.active as Active;
    const known = touched.find((one) => one.segment === segment);
    if (known !== undefined) return known;
    const added: Touched = { segment, file, before: { ...segment }, isDeleted: false };
    touched.push(added);
    return added;
  }

  private async create({ log, seq }: Entry, touched: Touched[]): Promise<Touched> {
    const name = rawName(this.directory.prefix, log, seq);
    // Opening again believes the newest segment: none may be begun while rows of the one before could still be lost.
    await this.syncNewest(touched);
    if (this.active !== null) this.touchActive(touched); // so that it is closed at the end, or active again if this fails
    const file = await this.createFile(name);
    const totals = { rows: 0, contentBytes: 0, fromMs: null, toMs: null };
    const segment: Segment = { ...totals, log, first: seq, last: seq, name, isSealed: false, diskBytes: 0, syncedBytes: 0 };
    const added: Touched = { segment, file, before: null, isDeleted: false };
    touched.push(added);
    this.catalogue.add(segment);
    this.active = { segment, file };
    return added;
  }

  private async createFile(name: string): Promise<DiskFile> {
    const create = () => this.directory.disk.open(pathOf(this.directory, name), 'wx+');
    try {
      return await create();
    } catch (error) {
      if (isMissing(error)) await makeDirectory(this.directory);
      else if ((error as NodeJS.ErrnoException).code === 'EEXIST') await this.quarantineStranger(name);
      else throw error;
      return await create();
    }
  }

  /** A file that has the name we are about to use and is not ours: somebody put it there since we opened. */
  private async quarantineStranger(name: string): Promise<void> {
    const { size } = await this.directory.disk.stat(pathOf(this.directory, name));
    await quarantineFile(this.directory, name, size, 'a file with the name of the next segment was there already');
  }

  /** Puts everything back as it was before the append, and throws what made it fail. */
  private async rollBack(touched: readonly Touched[], cause: unknown): Promise<never> {
    const error = typedDiskError('append', cause);
    if (error instanceof DiskFailedError) return this.failAppend(touched, error);
    try {
      for (const one of [...touched].reverse()) await this.undo(one);
    } catch (undoError) {
      return this.failAppend(touched, new DiskFailedError('undo a failed append', undoError));
    }
    throw error;
  }

  private async undo({ segment, file, before, isDeleted }: Touched): Promise<void> {
    if (this.active?.segment === segment) this.active = null;
    if (isDeleted) return;
    if (before === null) {
      this.catalogue.remove(segment);
      await file.close();
      await removeFile(this.directory, segment.name);
      return;
    }
    await file.truncate(before.diskBytes);
    this.catalogue.resize(segment, before.diskBytes);
    Object.assign(segment, before);
    this.active = { segment, file };
  }

  /** Makes the segment that was written to last durable; those before it are. */
  private async syncNewest(touched: readonly Touched[]): Promise<void> {
    const newest = touched.at(-1);
    if (newest === undefined || newest.isDeleted) return;
    await syncOrFail(`sync ${newest.segment.name}`, async () => {
      await newest.file.datasync();
      if (newest.before === null) await syncNames(this.directory);
    });
  }

  private async failAppend(touched: readonly Touched[], error: DiskFailedError): Promise<never> {
    this.active = null;
    for (const { file } of touched) await file.close().catch(() => undefined);
    throw this.fail(error);
  }

  private async commit(touched: readonly Touched[]): Promise<void> {
    for (const one of touched) {
      one.segment.syncedBytes = one.segment.diskBytes;
      // An error of closing says nothing about data that is synced already.
      if (!one.isDeleted && one.segment !== this.active?.segment) await one.file.close().catch(() => undefined);
    }
    if (touched.some((one) => one.before === null)) {
      this.putOff.clear();
      this.startSealing();
    }
  }

  private advance(entries: readonly Entry[]): void {
    for (const { log, seq, rows } of entries) {
      const isSame = this.end !== null && this.end.log === log && this.end.seq === seq;
      this.end = { log, seq, rowsOfSeq: (isSame && this.end !== null ? this.end.rowsOfSeq : 0) + rows };
    }
  }

  /** Notices that others have deleted or changed the active file. */
  private async checkActive(): Promise<void> {
    const { active } = this;
    if (active === null) return;
    const { segment, file } = active;
    const { nlink, size } = await file.stat();
    if (nlink > 0 && size === segment.diskBytes) return;
    if (nlink > 0 && size > segment.diskBytes) {
      await file.truncate(segment.diskBytes);
      this.directory.onEvent({ event: 'tail_cut', name: segment.name, bytes: size - segment.diskBytes });
      return;
    }
    if (nlink === 0) this.directory.onEvent({ event: 'segment_lost', segment: rangeOf(segment) });
    else await quarantineFile(this.directory, segment.name, size, `it was cut from ${segment.diskBytes} to ${size} bytes by somebody else`);
    this.catalogue.remove(segment);
    this.active = null;
    await file.close();
  }

  private async setAsideNow(name: string, problem: string): Promise<void> {
    const segment = this.catalogue.oldestFirst.find((one) => one.name === name);
    if (segment === undefined || segment === this.active?.segment) return;
    await this.sealer.abandon(segment);
    await quarantineFile(this.directory, name, segment.diskBytes, problem);
    this.catalogue.remove(segment);
  }

  private async forgetLost(names: ReadonlySet<string>): Promise<void> {
    for (const segment of [...this.catalogue.oldestFirst]) {
      if (names.has(segment.name) || segment === this.active?.segment) continue;
      await this.sealer.abandon(segment);
      this.catalogue.remove(segment);
      this.directory.onEvent({ event: 'segment_lost', segment: rangeOf(segment) });
    }
  }

  private async correctSizes(): Promise<void> {
    const settled = this.catalogue.oldestFirst.filter((segment) => segment !== this.active?.segment);
    const correct = async (segment: Segment): Promise<void> => {
      const size = await fileSize(this.directory, segment.name);
      if (size !== null) this.catalogue.resize(segment, size);
    };
    for (let at = 0; at < settled.length; at += STATS_AT_ONCE) await Promise.all(settled.slice(at, at + STATS_AT_ONCE).map(correct));
  }

  /** Older sealed segments that somebody has put into the directory count, and can be read. Newer ones would move the end. */
  private async adopt(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const parsed = parseSegmentName(this.directory.prefix, name);
      if (parsed === null || parsed.last === null || this.catalogue.find(parsed.log, parsed.first) !== null) continue;
      if (this.end === null || parsed.log > this.end.log || (parsed.log === this.end.log && parsed.last > this.end.seq)) continue;
      const segment = await recoverSealed(this.directory, { name, log: parsed.log, first: parsed.first }, parsed.last);
      if (segment !== null) this.catalogue.add(segment);
    }
  }

  /**
   * Deletes the oldest segments until `bytes` more fit; false if even that is not enough. Never the active one.
   * @param olderThan only segments older than this one may go
   */
  private async makeRoom(bytes: number, touched: readonly Touched[], olderThan?: Segment): Promise<boolean> {
    while (this.diskBytes + bytes > this.bytesMax) {
      const oldest = this.catalogue.oldestFirst.find((segment) => segment !== this.active?.segment);
      if (oldest === undefined) return false;
      if (olderThan !== undefined && compareSegments(oldest, olderThan) >= 0) return false;
      await this.deleteSegment(oldest, touched);
    }
    return true;
  }

  private async deleteSegment(segment: Segment, touched: readonly Touched[]): Promise<void> {
    await this.beforeDeletion?.(rangeOf(segment));
    await this.sealer.abandon(segment);
    await removeFile(this.directory, segment.name);
    this.catalogue.remove(segment);
    const open = touched.find((one) => one.segment === segment);
    if (open !== undefined) {
      open.isDeleted = true;
      await open.file.close();
    }
    const { diskBytes } = segment;
    this.directory.onEvent({ event: 'segment_deleted', reason: 'budget', segment: rangeOf(segment), diskBytes });
  }

  private async deleteWanted(segment: Segment): Promise<void> {
    await this.sealer.abandon(segment);
    await removeFile(this.directory, segment.name);
    this.catalogue.remove(segment);
    this.putOff.delete(segment);
    if (this.active?.segment !== segment) return;
    const { file } = this.active;
    this.active = null;
    await file.close().catch(() => undefined); // nothing in it is wanted any more
  }

  private startSealing(): void {
    this.sealing ??= this.sealAll().finally(() => {
      this.sealing = null;
    });
  }

  private async sealAll(): Promise<void> {
    for (;;) {
      // Between appends: what is not active then never will be again, while in the middle of one it might, if that fails.
      const segment = await this.exclusive.run(async () => this.nextToSeal());
      if (segment === null) return;
      try {
        if ((await this.sealer.seal(segment)) !== 'sealed') this.putOff.add(segment);
      } catch (error) {
        this.fail(error instanceof DiskFailedError ? error : new DiskFailedError(`seal ${segment.name}`, error));
      }
    }
  }

  private nextToSeal(): Segment | null {
    if (this.isClosing || this.failure !== null) return null;
    const isWaiting = (segment: Segment) => !segment.isSealed && segment !== this.active?.segment && !this.putOff.has(segment);
    return this.catalogue.oldestFirst.find(isWaiting) ?? null;
  }

  private replaced(segment: Segment, diskBytes: number): void {
    this.catalogue.resize(segment, diskBytes);
    this.directory.onEvent({ event: 'segment_sealed', segment: rangeOf(segment), contentBytes: segment.contentBytes, diskBytes });
  }

  private async openForReading({ log, first }: SegmentSummary): Promise<(Segment & { file: DiskFile }) | null> {
    for (;;) {
      const segment = this.catalogue.find(log, first);
      if (segment === null) return null;
      const snapshot = { ...segment };
      const file = await openFile(this.directory, snapshot.name, 'r');
      if (file !== null) return { ...snapshot, file };
      // Sealed between looking and opening: look again. Otherwise somebody deleted it, and the next rescan says so.
      if (segment.name === snapshot.name) return null;
    }
  }

  /** The end as the files say: the newest segment's last position, which may have begun in the segment before. */
  private async readEnd(): Promise<EndPosition | null> {
    for (;;) {
      const { newest } = this.catalogue;
      if (newest === null) return null;
      try {
        const rowsOfSeq = await this.countRows(newest.log, newest.last);
        if (rowsOfSeq === 0)
          throw new SegmentUnreadableError(newest.name, `it has no row of position ${newest.last}, where its name says it ends`);
        return { log: newest.log, seq: newest.last, rowsOfSeq };
      } catch (error) {
        if (!(error instanceof SegmentUnreadableError)) throw error;
        await this.setAsideNow(error.segment, error.message);
      }
    }
  }

  private async countRows(log: number, seq: number): Promise<number> {
    let rows = 0;
    for (const segment of this.catalogue.oldestFirst) {
      if (segment.log !== log || segment.last < seq) continue;
      const scan = await scanLeniently(this.read(segment), this.directory.format);
      if (scan.last === seq) rows += scan.rowsOfLast;
    }
    return rows;
  }

  private async guarded(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const typed = typedDiskError(what, error);
      throw typed instanceof DiskFailedError ? this.fail(typed) : typed;
    }
  }

  private fail(error: DiskFailedError): DiskFailedError {
    this.failure ??= error;
    return this.failure;
  }
}

function rangeOf({ name, log, first, last, rows, fromMs, toMs }: Segment): SegmentRange {
  return { name, log, first, last, rows, fromMs, toMs };
}
