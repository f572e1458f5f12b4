// The judge of the chaos rounds is judged itself: whatever is removed from, doubled in or changed in a segment on disk is found, and
// nothing is found where nothing is wrong.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formatRow, rowPrefix } from '#shared/contract/row';
import { isClean, Ledger, type Verdict } from '../chaos/checker.ts';
import { hostName, knownBatch, knownValues, unitName } from '../chaos/known-batch.ts';
import { readSegmentFiles } from '../chaos/segment-files.ts';

const LOG = '1763678400000';
const FIRST_TS = 1_763_678_400_000;
const TICKS = 20;
const UNITS = 5;
const RAW = `metrics-${LOG}-0000000000000001.jsonl`;

let directory: string;
let ledger: Ledger;
let lines: string[];

const timeOf = (tick: number): string => new Date(FIRST_TS + tick).toISOString();
const isIn = (ms: number, fromMs: number, toMs: number): boolean => ms >= fromMs && ms <= toMs;
const seqOf = (tick: number): number => tick + 1;
const number = (value: number | null): number => value ?? Number.NaN;

function rowOf(host: number, tick: number, unit: number): string {
  const { pid, started, ...values } = knownValues(host, 1, tick, unit);
  const { cpu_percent, rss_bytes, io_read_bytes, io_write_bytes, net_rx_bytes, net_tx_bytes, threads } = values;
  const metrics = [cpu_percent, rss_bytes, io_read_bytes, io_write_bytes, net_rx_bytes, net_tx_bytes, threads].map(number);
  return formatRow(rowPrefix(hostName(host), unitName(unit)), seqOf(tick), 'running', pid, started, timeOf(tick), metrics);
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'spillway-checker-'));
  ledger = new Ledger();
  lines = [];
  for (let tick = 0; tick < TICKS; tick++) {
    ledger.sent({ host: 0, boot: 1, tick, firstUnit: 0, units: UNITS }, FIRST_TS + tick)(seqOf(tick));
    for (let unit = 0; unit < UNITS; unit++) lines.push(rowOf(0, tick, unit));
  }
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function writeLines(name = RAW): void {
  const text = `${lines.join('\n')}\n`;
  writeFileSync(join(directory, name), name.endsWith('.gz') ? gzipSync(text) : text);
}

async function judge(to?: number): Promise<{ verdict: Verdict; problems: readonly string[] }> {
  const check = ledger.check(0, to);
  const { problems } = await readSegmentFiles(directory, (row) => check.row(row));
  return { verdict: check.verdict(), problems };
}

const counts = ({ lost, doubled, wrong, unexpected }: Verdict) => ({ lost, doubled, wrong, unexpected });
const CLEAN = { lost: 0, doubled: 0, wrong: 0, unexpected: 0 };

describe('the judge', () => {
  test('a batch as it is published and a row as it is judged have the same values', () => {
    const { io_read_bytes, threads, pid } = knownBatch(0, 1, 3, UNITS, FIRST_TS, 100, false);
    expect([io_read_bytes?.[2], threads?.[2], pid[2]]).toEqual([
      knownValues(0, 1, 3, 2).io_read_bytes,
      knownValues(0, 1, 3, 2).threads,
      knownValues(0, 1, 3, 2).pid,
    ]);
  });

  test.each([RAW, RAW.replace('.jsonl', `-${`${TICKS}`.padStart(16, '0')}.jsonl.gz`)])(
    'finds nothing in a good segment %s',
    async (name) => {
      writeLines(name);
      const { verdict, problems } = await judge();
      expect(verdict).toMatchObject({ accepted: TICKS * UNITS, seen: TICKS * UNITS, ...CLEAN });
      expect(isClean(verdict)).toBe(true);
      expect(problems).toEqual([]);
    },
  );

  test('finds every row that is removed, wherever it stood', async () => {
    const all = lines;
    for (let at = 0; at < all.length; at++) {
      lines = all.toSpliced(at, 1);
      writeLines();
      const { verdict } = await judge();
      expect(counts(verdict), `row ${at}`).toEqual({ ...CLEAN, lost: 1 });
      expect(verdict.examples[0]).toMatchObject({ kind: 'lost', host: 'host-0', boot: 1, tick: Math.floor(at / UNITS) });
    }
  });

  test('finds every row that is doubled, beside the first or in another file', async () => {
    const all = lines;
    for (let at = 0; at < all.length; at += 3) {
      lines = all.toSpliced(at, 0, all[at] as string);
      writeLines();
      expect(counts((await judge()).verdict), `row ${at}`).toEqual({ ...CLEAN, doubled: 1 });
    }
    lines = all;
    writeLines();
    lines = [all.at(-1) as string];
    writeLines(`metrics-${LOG}-${`${TICKS}`.padStart(16, '0')}.jsonl`);
    const { verdict } = await judge();
    expect(counts(verdict)).toEqual({ ...CLEAN, doubled: 1 });
    expect(verdict.examples[0]).toMatchObject({ kind: 'doubled', tick: TICKS - 1, unit: `unit-${UNITS - 1}` });
  });

  test.each([
    ['pid', (line: string) => line.replace(/"pid":\d+/, '"pid":7')],
    ['started', (line: string) => line.replace(/"started":\d+/, '"started":7')],
    ['state', (line: string) => line.replace('"state":"running"', '"state":"zombie"')],
    ['rss_bytes', (line: string) => line.replace(/"rss_bytes":(\d+)\d/, '"rss_bytes":$1')],
    ['io_read_bytes', (line: string) => line.replace(/"io_read_bytes":\d+/, '"io_read_bytes":null')],
    ['a null', (line: string) => line.replace('"net_rx_bytes":null', '"net_rx_bytes":0')],
    ['threads', (line: string) => line.replace(/"threads":(\d+)/, '"threads":1$1')],
    ['the position', (line: string) => line.replace(/"seq":(\d+)/, '"seq":1$1')],
    ['the time', (line: string) => line.replace(/\d{3}Z"/, '999Z"')],
  ])('finds a row in which %s was changed', async (_, change) => {
    const at = 3 * UNITS + 2;
    const before = lines[at] as string;
    lines[at] = change(before);
    expect(lines[at]).not.toBe(before);
    writeLines();
    expect(counts((await judge()).verdict)).toEqual({ ...CLEAN, wrong: 1 });
  });

  test('a row under another name or time is lost there and was never sent here', async () => {
    for (const line of [rowOf(3, 4, 1), rowOf(0, TICKS + 5, 1), rowOf(0, 4, UNITS + 1)]) {
      const at = 4 * UNITS + 1;
      const before = lines[at] as string;
      lines[at] = line;
      writeLines();
      expect(counts((await judge()).verdict)).toEqual({ ...CLEAN, lost: 1, unexpected: 1 });
      lines[at] = before;
    }
  });

  test('rows of the window are not asked of the files, and must not be in them', async () => {
    const inFiles = lines.slice(0, 10 * UNITS);
    lines = inFiles;
    writeLines();
    expect(counts((await judge(seqOf(10))).verdict)).toEqual(CLEAN);
    expect(counts((await judge(seqOf(9))).verdict)).toEqual({ ...CLEAN, wrong: UNITS });
    expect(counts((await judge(seqOf(11))).verdict)).toEqual({ ...CLEAN, lost: UNITS });
  });

  test('the time says nothing of which row it is: a clock set back gives two ticks the same', async () => {
    const again = TICKS;
    ledger.sent({ host: 0, boot: 1, tick: again, firstUnit: 0, units: UNITS }, FIRST_TS + 3)(seqOf(again));
    const repeated = Array.from({ length: UNITS }, (_, unit) => rowOf(0, again, unit).replace(timeOf(again), timeOf(3)));
    lines.push(...repeated);
    writeLines();
    expect(counts((await judge()).verdict)).toEqual(CLEAN);
    lines = [...lines.slice(0, -1), lines[3 * UNITS] as string];
    writeLines();
    const { verdict } = await judge();
    expect(counts(verdict)).toEqual({ ...CLEAN, lost: 1, doubled: 1 });
    expect(verdict.examples.find(({ kind }) => kind === 'lost')).toMatchObject({ tick: again, unit: `unit-${UNITS - 1}` });
  });

  test.each([1, 3 * UNITS, 1_000])('all of time is read in spans of about %i rows, each moment in one of them', (rowsMax) => {
    ledger.sent({ host: 1, boot: 1, tick: 0, firstUnit: 0, units: 1 }, FIRST_TS - 86_400_000);
    ledger.sent({ host: 1, boot: 1, tick: 1, firstUnit: 0, units: 1 }, FIRST_TS + 3);
    const spans = ledger.spans(rowsMax);
    expect([spans[0]?.fromMs, spans.at(-1)?.toMs]).toEqual([0, 8.64e15]);
    for (const [i, { fromMs }] of spans.slice(1).entries()) expect(fromMs).toBe((spans[i]?.toMs as number) + 1);
    const ticksIn = ({ fromMs, toMs }: (typeof spans)[number]) =>
      lines.filter((_, i) => isIn(FIRST_TS + Math.floor(i / UNITS), fromMs, toMs));
    for (const { fromMs, toMs } of spans) expect(toMs).toBeGreaterThanOrEqual(fromMs);
    for (const span of spans) expect(ticksIn(span).length).toBeLessThan(rowsMax + UNITS);
    expect(spans.flatMap(ticksIn)).toEqual(lines);
  });

  test('a batch that may have been taken twice may be there twice, at any place, but not three times, not changed, and not missing', async () => {
    ledger.sent({ host: 1, boot: 1, tick: 0, firstUnit: 0, units: 1 }, FIRST_TS)(TICKS + 5, true);
    const row = rowOf(1, 0, 0);
    const original = lines;
    const expected = [
      [[], { ...CLEAN, lost: 1 }, 0],
      [[row], CLEAN, 0],
      [[row, row], CLEAN, 1],
      [[row, row, row], { ...CLEAN, doubled: 1 }, 1],
      [[row, row.replace(/"threads":/, '"threads":1')], { ...CLEAN, wrong: 1 }, 1],
    ] as const;
    for (const [copies, counted, repeated] of expected) {
      lines = [...copies, ...original];
      writeLines();
      const { verdict } = await judge();
      expect({ ...counts(verdict), repeated: verdict.repeated }).toEqual({ ...counted, repeated });
    }
  });

  test('a batch of which nobody knows may be there or not, but not twice', async () => {
    ledger.sent({ host: 1, boot: 1, tick: 0, firstUnit: 0, units: 1 }, FIRST_TS);
    writeLines();
    expect(counts((await judge()).verdict)).toEqual(CLEAN);
    const row = rowOf(1, 0, 0);
    lines = [row, ...lines];
    writeLines();
    expect(counts((await judge()).verdict)).toEqual(CLEAN);
    lines = [row, ...lines];
    writeLines();
    expect(counts((await judge()).verdict)).toEqual({ ...CLEAN, doubled: 1 });
  });

  test('a torn line, a line that is no row, a position that goes back and a damaged member are told', async () => {
    lines[4] = (lines[4] as string).slice(0, 40);
    writeLines();
    const torn = await judge();
    expect(counts(torn.verdict)).toEqual({ ...CLEAN, lost: 1 });
    expect(torn.problems).toEqual([expect.stringContaining('not a row')]);
    lines[4] = rowOf(0, 0, 4);
    lines = [...lines.slice(UNITS), ...lines.slice(0, UNITS)];
    writeLines();
    expect((await judge()).problems).toEqual([expect.stringContaining(`position 1 after ${TICKS}`)]);
    const sealed = RAW.replace('.jsonl', `-${`${TICKS}`.padStart(16, '0')}.jsonl.gz`);
    writeLines(sealed);
    const bytes = readFileSync(join(directory, sealed));
    writeFileSync(join(directory, sealed), bytes.subarray(0, bytes.length - 20));
    expect((await judge()).problems.join()).toContain(sealed);
  });
});
