// Processes that do nothing: what is not read again, and what must be seen all the same.

import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ProcessReading, UnitReading } from '../../services/collector/core/unit-reading.ts';
import type { UnitTarget } from '../../services/collector/core/unit-target.ts';
import { ProcFiles } from '../../services/collector/procfs/proc-files.ts';
import { ProcfsSampler } from '../../services/collector/procfs/sampler.ts';
import { type FakeProcess, FakeProcfs } from '../support/fake-procfs.ts';

let proc: FakeProcfs;
let sampler: ProcfsSampler | null = null;
beforeEach(() => {
  proc = new FakeProcfs();
  proc.put(1, { ppid: 0, startTicks: 1, readBytes: 0 });
});
afterEach(() => {
  vi.restoreAllMocks();
  sampler?.close();
  sampler = null;
  proc.remove();
});

const resting: FakeProcess = { readBytes: 8, cpuTicks: 7, ran: '70000 5 3' };
/** What nobody can do without running; here it shows whether it was read again. */
const changed: FakeProcess = { ...resting, readBytes: 9, cpuTicks: 9 };
const byPid = (pid: number, tree = true): UnitTarget => ({ unit: `u${pid}`, rule: { kind: 'pid', pid }, tree });

function open(targets: UnitTarget[], descriptorsMax = 100) {
  const opened = new ProcfsSampler(targets, { root: proc.root, descriptorsMax });
  sampler = opened;
  const processOf = (reading: UnitReading | undefined): ProcessReading => {
    if (reading === undefined || reading.state === 'missing') throw new Error(`missing: ${reading?.reason}`);
    return reading.processes[0] as ProcessReading;
  };
  return {
    sampler: opened,
    sample: () => processOf(opened.sample()[0]),
    peak: () => processOf(opened.samplePeak()[0]),
    /** Until it is known to rest: seen twice with the same CPU, then watched, then found not to have run. */
    settle: () => {
      for (let i = 0; i < 4; i++) opened.sample();
    },
  };
}

describe('a process that has not run', () => {
  test('is not read again, unless memory was taken from it; when it has run it is', () => {
    proc.put(50, resting);
    const { sample, settle } = open([byPid(50)]);
    settle();
    proc.put(50, changed);
    expect(sample()).toMatchObject({ cpuOwnMs: 90, ioReadBytes: 8 });
    expect(sample(), 'nothing new: the same object').toBe(sample());
    proc.put(50, { ...resting, residentPages: 11 });
    expect(sample()).toMatchObject({ cpuOwnMs: 90, ioReadBytes: 8, rssBytes: 11 * 4096 });
    proc.put(50, { ...changed, residentPages: 11 });
    expect(sample(), 'and then it rests again').toMatchObject({ cpuOwnMs: 90 });
    proc.put(50, { ...changed, ran: '70001 5 4' });
    expect(sample()).toMatchObject({ cpuOwnMs: 110, ioReadBytes: 9, rssBytes: 25 * 4096 });
    proc.put(50, { ...changed, readBytes: 10, ran: '70001 5 5' });
    expect(sample()).toMatchObject({ ioReadBytes: 10 });
  });

  test('costs two reads of open files; four when it turns out to have run, two when it is not watched', () => {
    proc.put(50, resting);
    const { sample, settle } = open([byPid(50, false)]);
    const reads = vi.spyOn(ProcFiles.prototype, 'readOpen');
    const inSample = (): number => {
      const before = reads.mock.calls.length;
      sample();
      return reads.mock.calls.length - before;
    };
    const others = inSample() - 2;
    settle();
    expect(inSample() - others).toBe(2);
    proc.put(50, { ...resting, threads: 2, ran: '70001 5 4' });
    expect(inSample() - others).toBe(4);
    expect(inSample() - others, 'stat and io').toBe(2);
  });

  test('and one that runs all the time is left alone for longer and longer', () => {
    proc.put(50, resting);
    const { sampler: opened } = open([byPid(50)]);
    const opens = vi.spyOn(ProcFiles.prototype, 'open');
    const watched: number[] = [];
    for (let tick = 0; tick < 300; tick++) {
      // A little each time: less than stat counts.
      proc.put(50, { ...resting, ran: `${70_000 + tick} 5 ${tick}` });
      opened.sample();
      if (opens.mock.calls.some(([path]) => path === '50/schedstat')) watched.push(tick);
      opens.mockClear();
    }
    const pauses = watched.slice(1).map((tick, i) => tick - (watched[i] as number));
    expect(pauses.length).toBeGreaterThanOrEqual(3);
    expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
    expect(pauses.at(-1)).toBeGreaterThan(2 * (pauses[0] as number));
  });

  test('stays watched when it runs now and then', () => {
    proc.put(50, resting);
    const { sampler: opened } = open([byPid(50)]);
    const opens = vi.spyOn(ProcFiles.prototype, 'open');
    for (let tick = 0; tick < 30; tick++) {
      proc.put(50, { ...resting, ran: `${70_000 + Math.floor(tick / 3)} 5 3` });
      opened.sample();
    }
    expect(opens.mock.calls.filter(([path]) => path === '50/schedstat')).toHaveLength(1);
  });

  test.each([
    ['with more threads than one', { threads: 2 }],
    ['that is a zombie', { state: 'Z' }],
  ])('does not go for one %s: it is read each time', (_, fields) => {
    proc.put(50, { ...resting, ...fields });
    const { sample, settle } = open([byPid(50)]);
    settle();
    proc.put(50, { ...changed, ...fields });
    expect(sample()).toMatchObject({ cpuOwnMs: 110, ioReadBytes: 9 });
  });

  test.each([
    ['has no schedstat', undefined],
    ['does not fill it', '0 0 0'],
  ])('where the kernel %s every one is read each time', (_, ran) => {
    if (ran === undefined) rmSync(join(proc.root, String(process.pid), 'schedstat'));
    else writeFileSync(join(proc.root, String(process.pid), 'schedstat'), `${ran}\n`);
    proc.put(50, { ...resting, ran: '0 0 0' });
    const { sample, settle } = open([byPid(50)]);
    settle();
    proc.put(50, { ...changed, ran: '0 0 0' });
    expect(sample()).toMatchObject({ cpuOwnMs: 110, ioReadBytes: 9 });
  });

  test('has its new parent at once when the old one has ended', () => {
    proc.put(40, { ...resting, startTicks: 4 });
    proc.put(50, { ...resting, ppid: 40 });
    proc.put(60, { ...resting, ppid: 50 });
    const opened = open([byPid(40, true)]).sampler;
    const parents = (): (number | null)[] => {
      const [reading] = opened.sample();
      return reading?.state === 'running' ? reading.processes.map(({ ppid }) => ppid) : [null];
    };
    for (let i = 0; i < 4; i++) expect(parents()).toEqual([1, 40, 50]);
    // It is found gone when it is read, before the table knows.
    proc.end(50);
    proc.put(60, { ...resting, ppid: 40 });
    expect(parents()).toEqual([1, 40]);
    expect(parents()).toEqual([1, 40]);
    // A fork makes the table look: it knows before anybody has read the one that is gone.
    proc.spawn(150, { ...resting, ppid: 60 });
    expect(parents()).toEqual([1, 40, 60]);
    for (let i = 0; i < 4; i++) opened.sample();
    proc.end(60);
    proc.put(150, { ...resting, ppid: 40 });
    proc.spawn(151, resting);
    expect(parents()).toEqual([1, 40]);
  });

  test('that a reading between two samples sees run is read as a whole at the next sample', () => {
    proc.put(50, resting);
    const { sample, peak, settle } = open([byPid(50)]);
    settle();
    proc.put(50, { ...changed, ran: '90000 5 9' });
    expect(peak()).toMatchObject({ cpuOwnMs: 110 });
    expect(sample()).toMatchObject({ cpuOwnMs: 110, ioReadBytes: 9 });
    expect(sample()).toMatchObject({ cpuOwnMs: 110, ioReadBytes: 9 });
  });

  test('whose id another process has got is read as that one, also where no descriptors are left', () => {
    proc.put(50, { ...resting, startTicks: 10 });
    const { sample, sampler: opened } = open([byPid(50)], 2);
    for (let i = 0; i < 15; i++) expect(sample()).toMatchObject({ startMs: 100 });
    proc.put(50, { ...changed, startTicks: 10 });
    expect(sample(), 'the two descriptors are for looking whether it runs').toMatchObject({ cpuOwnMs: 90 });
    // Files that are written over stand for a descriptor that was opened after the change.
    proc.put(50, { ...changed, startTicks: 20, ran: '100 1 1' });
    expect(sample()).toMatchObject({ startMs: 200, cpuOwnMs: 110, ioReadBytes: 9 });
    proc.put(50, { ...resting, startTicks: 20, ran: '200 1 2' });
    expect(sample()).toMatchObject({ startMs: 200, cpuOwnMs: 90, ioReadBytes: 8 });
    proc.end(50);
    expect(opened.sample()).toMatchObject([{ state: 'missing' }]);
  });

  test('and another one under its id may let its io be read', () => {
    proc.put(50, { ...resting, startTicks: 10 });
    writeFileSync(join(proc.root, '50', 'io'), 'not readable\n');
    const { sample } = open([byPid(50)], 0);
    expect(sample()).toMatchObject({ startMs: 100, ioReadBytes: null });
    proc.put(50, { ...resting, startTicks: 20 });
    expect(sample()).toMatchObject({ startMs: 200, ioReadBytes: 8 });
  });

  test('and whose io may not be read is still counted among those', () => {
    proc.put(50, { ...resting, readBytes: 1 });
    writeFileSync(join(proc.root, '50', 'io'), 'not readable\n');
    const { sampler: opened, settle } = open([byPid(50)]);
    settle();
    opened.sample();
    expect(opened.problems).toEqual([expect.stringMatching(/^io of 1 processes/)]);
  });

  test('of two units has its new parent at once, whichever is read first', () => {
    // The first unit is the second one's grandchild; its parent ends, and nobody has forked since.
    proc.put(40, { ...resting, startTicks: 4 });
    proc.put(50, { ...resting, ppid: 40 });
    proc.put(60, { ...resting, ppid: 50 });
    const { sample, settle } = open([byPid(60, false), byPid(40)]);
    settle();
    proc.end(50);
    proc.put(60, { ...resting, ppid: 40 });
    expect(sample()).toMatchObject({ pid: 60, ppid: 40 });
  });

  test('keeps two descriptors, also when it was read once more because its parent ended', () => {
    const opened = (): number => readdirSync('/proc/self/fd').length;
    proc.put(40, { ...resting, startTicks: 4 });
    proc.put(60, { ...resting, ppid: 50 });
    proc.put(50, { ...resting, ppid: 40 });
    const { sampler: sampling } = open([byPid(40)]);
    const before = opened();
    for (let i = 0; i < 20; i++) sampling.sample();
    expect(opened() - before).toBe(6);
    proc.end(50);
    proc.put(60, { ...resting, ppid: 40 });
    for (let i = 0; i < 3; i++) sampling.sample();
    expect(opened() - before).toBe(4);
  });

  test('is read as before where no more files can be opened', () => {
    proc.put(50, resting);
    const { sample, settle } = open([byPid(50)]);
    const before = readdirSync('/proc/self/fd').length;
    const { open: openFile } = ProcFiles.prototype;
    vi.spyOn(ProcFiles.prototype, 'open').mockImplementation(function (this: ProcFiles, path) {
      if (path.endsWith('/statm')) throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
      return openFile.call(this, path);
    });
    settle();
    proc.put(50, changed);
    expect(sample()).toMatchObject({ cpuOwnMs: 110, ioReadBytes: 9 });
    expect(readdirSync('/proc/self/fd').length - before, 'stat and io').toBe(2);
  });

  test('keeps what it has where there is no room for both', () => {
    proc.put(50, resting);
    writeFileSync(join(proc.root, '50', 'io'), 'not readable\n');
    const { sample, settle } = open([byPid(50)], 1);
    const before = readdirSync('/proc/self/fd').length;
    settle();
    expect(readdirSync('/proc/self/fd').length - before, 'stat').toBe(1);
    const opens = vi.spyOn(ProcFiles.prototype, 'open');
    sample();
    expect(opens.mock.calls.filter(([path]) => path.startsWith('50/'))).toEqual([]);
  });
});
