// A directory of segments for tests: records, a disk that fails at the n-th operation, and what is really there.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Entry } from '#shared/segments/append-plan';
import { type Disk, type DiskFile, realDisk } from '#shared/segments/disk';
import type { RecordFormat } from '#shared/segments/record-format';
import type { SegmentEvent } from '#shared/segments/segment-events';
import { openSegmentLog, type SegmentLog } from '#shared/segments/segment-log';
import { parseSegmentName } from '#shared/segments/segment-name';

export const LOG = 1_763_678_400_000;

/** `{"n":"x","seq":12,"t":1000,...}` */
export const testFormat: RecordFormat = {
  seqOf: (bytes, start, end) => numberAfter(',"seq":', bytes.toString('latin1', start, end)),
  timeOf: (bytes, start, end) => numberAfter(',"t":', bytes.toString('latin1', start, end)),
};

function numberAfter(key: string, line: string): number | null {
  const at = line.indexOf(key);
  if (at === -1) return null;
  const match = /^\d+/.exec(line.slice(at + key.length));
  return match === null ? null : Number(match[0]);
}

export function line(seq: number, row: number, padding = 10): string {
  return `{"n":"${row}","seq":${seq},"t":${1000 + seq},"x":"${'x'.repeat(padding)}"}`;
}

/** All rows of a batch, or a part of them, as one entry. */
export function entryOf(seq: number, rows: number, options: { from?: number; padding?: number; log?: number } = {}): Entry {
  const { from = 0, padding = 10, log = LOG } = options;
  const lines = Array.from({ length: rows }, (_, row) => `${line(seq, from + row, padding)}\n`);
  return { log, seq, rows, bytes: Buffer.from(lines.join('')), fromMs: 1000 + seq, toMs: 1000 + seq };
}

export function linesOf(entries: readonly Entry[]): string[] {
  return entries.flatMap(({ bytes }) => Buffer.from(bytes).toString().split('\n').slice(0, -1));
}

export function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'segments-'));
}

export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

export interface Limits {
  readonly bytesMax?: number;
  readonly segmentBytesMax?: number;
  readonly disk?: Disk;
}

export interface OpenLog {
  readonly log: SegmentLog;
  readonly events: SegmentEvent[];
}

export async function openLog(directory: string, limits: Limits = {}): Promise<OpenLog> {
  const events: SegmentEvent[] = [];
  const log = await openSegmentLog({
    directory,
    prefix: 'metrics',
    bytesMax: limits.bytesMax ?? 1_000_000,
    segmentBytesMax: limits.segmentBytesMax ?? 200,
    format: testFormat,
    onEvent: (event) => events.push(event),
    ...(limits.disk === undefined ? {} : { disk: limits.disk }),
  });
  return { log, events };
}

/** Waits until nothing is left to seal: everything is sealed or put off, or the log has failed. */
export async function sealed(log: SegmentLog, events: readonly SegmentEvent[] = []): Promise<void> {
  for (let i = 0; i < 5000; i++) {
    const putOff = new Set(events.flatMap((one) => (one.event === 'sealing_put_off' ? [one.name] : [])));
    const segments = log.segments();
    const raw = segments.filter((segment) => !segment.isSealed && !putOff.has(segment.name));
    // While both forms of a segment are there, the log's sum is larger than that of its segments.
    const isBetween = log.diskBytes > segments.reduce((sum, segment) => sum + segment.diskBytes, 0);
    if (log.failed !== null || (raw.length <= 1 && !isBetween)) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error('not sealed in time');
}

export async function readAll(log: SegmentLog): Promise<string[]> {
  const lines: string[] = [];
  for (const segment of log.segments()) {
    for await (const block of log.read(segment)) lines.push(...block.toString().split('\n').slice(0, -1));
  }
  return lines;
}

/** Names of our files, in order. */
export function ourFiles(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => parseSegmentName('metrics', name.replace(/\.tmp$/, '')) !== null)
    .sort();
}

export function bytesOnDisk(directory: string): number {
  return ourFiles(directory).reduce((sum, name) => sum + (statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

/** What somebody with other tools sees in the directory. */
export function linesOnDisk(directory: string): string[] {
  return ourFiles(directory)
    .filter((name) => !name.endsWith('.tmp'))
    .flatMap((name) => {
      const bytes = readFileSync(join(directory, name));
      return (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n').slice(0, -1);
    });
}

export function zcat(path: string): string {
  return execFileSync('zcat', [path], { encoding: 'utf8', maxBuffer: 100_000_000 });
}

export type Fault = 'ENOSPC' | 'EIO' | 'short' | 'crash' | 'torn' | 'power cut';

/**
 * A disk that works until operation `at` (from 1), which fails: with an error; by writing only half (`short`); by stopping
 * the world there (`crash`), or after half of a write (`torn`), or so that what was written and not synced is gone, but for the
 * file that was begun last, which by chance has it all (`power cut`). After each operation `check` is called.
 */
export class FaultyDisk implements Disk {
  operations = 0;
  hasFailed = false;
  /** Called after each operation, with what it was. */
  check: (operation: string) => void = () => undefined;
  private readonly at: number;
  private readonly fault: Fault;
  /** Bytes that are durable of each file with writes that are not synced, in the order in which they were opened. */
  private readonly unsynced = new Map<string, number>();

  constructor(at = Number.POSITIVE_INFINITY, fault: Fault = 'crash') {
    this.at = at;
    this.fault = fault;
  }

  mkdir = (path: string, options: { recursive: true }) => this.run('mkdir', () => realDisk.mkdir(path, options));
  readdir = (path: string, options: { withFileTypes: true }) => this.run('readdir', () => realDisk.readdir(path, options));
  stat = (path: string) => this.run('stat', () => realDisk.stat(path));
  rename = (from: string, to: string) => this.run('rename', () => realDisk.rename(from, to));
  unlink = (path: string) => this.run('unlink', () => realDisk.unlink(path));
  open = async (path: string, flags: string): Promise<DiskFile> =>
    this.wrap(await this.run('open', () => realDisk.open(path, flags)), path);

  private wrap(file: DiskFile, path: string): DiskFile {
    return {
      read: (buffer, offset, length, position) => this.run('read', () => file.read(buffer, offset, length, position)),
      writev: async (buffers, position) => {
        if (!this.unsynced.has(path)) this.unsynced.set(path, (await file.stat()).size);
        return this.run(
          'writev',
          () => file.writev(buffers, position),
          () => file.writev(half(buffers), position),
        );
      },
      truncate: (length) => this.run('truncate', () => file.truncate(length)),
      datasync: async () => {
        await this.run('datasync', () => file.datasync());
        this.unsynced.delete(path);
      },
      sync: () => this.run('sync', () => file.sync()),
      stat: () => this.run('fstat', () => file.stat()),
      // Closing always closes: a test that runs a thousand times must not run out of descriptors.
      close: () => file.close(),
    };
  }

  private loseUnsynced(): void {
    for (const [path, bytes] of [...this.unsynced].slice(0, -1)) if (existsSync(path)) truncateSync(path, bytes);
  }

  private async run<T>(name: string, work: () => Promise<T>, partly?: () => Promise<T>): Promise<T> {
    const operation = ++this.operations;
    const isHere = operation === this.at;
    const isDead = (this.fault === 'crash' || this.fault === 'torn' || this.fault === 'power cut') && operation >= this.at;
    if (isHere) this.hasFailed = true;
    if (isHere && this.fault === 'short' && partly !== undefined) return await partly();
    if (isHere && this.fault === 'power cut') this.loseUnsynced();
    if (isHere && this.fault === 'torn' && partly !== undefined) await partly();
    if (isDead) throw failure('EIO', name);
    if (isHere && this.fault !== 'short') throw failure(this.fault, name);
    try {
      return await work();
    } finally {
      this.check(name);
    }
  }
}

function half(buffers: readonly Uint8Array[]): Uint8Array[] {
  const whole = Buffer.concat(buffers);
  return [whole.subarray(0, Math.ceil(whole.length / 2))];
}

function failure(code: string, operation: string): Error {
  return Object.assign(new Error(`${code}: ${operation}`), { code });
}
