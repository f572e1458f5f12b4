import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { UnitReading } from '../../services/collector/core/unit-reading.ts';
import type { UnitTarget } from '../../services/collector/core/unit-target.ts';
import { UnitTracker } from '../../services/collector/core/unit-tracker.ts';
import { ProcfsSampler, type ProcfsSamplerOptions } from '../../services/collector/procfs/sampler.ts';
import { FakeProcfs } from '../support/fake-procfs.ts';

let proc: FakeProcfs;
beforeEach(() => {
  proc = new FakeProcfs();
  proc.put(1, { ppid: 0, startTicks: 1, readBytes: 0 });
});
afterEach(() => proc.remove());

function open(targets: UnitTarget[], options: ProcfsSamplerOptions = {}): ProcfsSampler {
  return new ProcfsSampler(targets, { root: proc.root, descriptorsMax: 0, ...options });
}
const byPid = (pid: number, tree = true): UnitTarget => ({ unit: `u${pid}`, rule: { kind: 'pid', pid }, tree });
const byMatch = (expression: RegExp, user: string | null = null): UnitTarget => ({
  unit: 'm',
  rule: { kind: 'match', expression, user },
  tree: true,
});
const pidsOf = (reading: UnitReading | undefined): number[] =>
  reading === undefined || reading.state === 'missing' ? [] : reading.processes.map((process) => process.pid);

describe('ProcfsSampler', () => {
  test('reads what the kernel writes: ticks become ms, pages bytes, the start a wall clock time', () => {
    proc.put(50, { startTicks: 2_050, threads: 3, readBytes: 4096 });
    expect(open([byPid(50)]).sample()).toMatchObject([
      {
        state: 'running',
        pid: 50,
        startMs: 20_500,
        startedMs: 1_763_670_020_500,
        atMs: 1_000_000,
        processes: [
          { pid: 50, ppid: 1, cpuOwnMs: 30, cpuReapedMs: 70, ioReadBytes: 4096, ioWriteBytes: 0, rssBytes: 25 * 4096, threads: 3 },
        ],
        netRxBytes: null,
      },
    ]);
  });

  test('a process alone has neither descendants nor what it inherited from them', () => {
    proc.put(50, { readBytes: 1 });
    proc.put(51, { ppid: 50, readBytes: 1 });
    const [tree, alone] = open([byPid(50), byPid(50, false)]).sample();
    expect(pidsOf(alone)).toEqual([50]);
    expect(tree).toMatchObject({ processes: [{ pid: 50, cpuReapedMs: 70 }, { pid: 51 }] });
    expect(alone).toMatchObject({ processes: [{ pid: 50, cpuReapedMs: 0 }] });
  });

  test('several matching processes are one unit, each counted once; its root is the oldest', () => {
    proc.put(52, { ppid: 51, startTicks: 30, command: ['worker'], readBytes: 1 }); // a match below a match
    proc.put(51, { startTicks: 20, command: ['worker'], readBytes: 1 });
    proc.put(60, { startTicks: 20, command: ['worker'], readBytes: 1 });
    proc.put(53, { ppid: 52, startTicks: 40, command: ['helper'], readBytes: 1 });
    const sampler = open([byMatch(/^worker/)]);
    const [unit] = sampler.sample();
    expect(unit).toMatchObject({ pid: 51 });
    expect(pidsOf(unit)).toEqual([51, 60, 52, 53]);
    proc.end(51);
    proc.put(52, { ppid: 1, startTicks: 30, command: ['worker'], readBytes: 1 });
    sampler.sample();
    expect(sampler.sample()).toMatchObject([{ pid: 60, processes: [{ pid: 60 }, { pid: 52 }, { pid: 53 }] }]);
  });

  test('a match may be limited to a user, by name or number, and says when only others match', () => {
    const passwdPath = join(proc.root, 'passwd');
    writeFileSync(passwdPath, 'root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\nbroken\n');
    proc.put(50, { command: ['worker'], uid: 1000, readBytes: 1 });
    proc.put(51, { command: ['worker'], uid: 0, readBytes: 1 });
    const of = (user: string) => open([byMatch(/^worker/, user)], { passwdPath }).sample()[0];
    expect(of('app')).toMatchObject({ pid: 50, processes: [{ pid: 50 }] });
    expect(of('0')).toMatchObject({ pid: 51 });
    expect(of('7')).toEqual({ state: 'missing', reason: '2 processes match /^worker/, none of them of user 7' });
    expect(of('nobody-here')).toEqual({ state: 'missing', reason: 'there is no user "nobody-here" on this host' });
  });

  test('a process that starts to match, and one that no longer does', () => {
    proc.put(50, { command: ['sh'], readBytes: 1 });
    const sampler = open([byMatch(/server/)], { now: () => nowMs });
    let nowMs = 0;
    expect(sampler.sample()).toEqual([{ state: 'missing', reason: 'no process has a command line that matches /server/' }]);
    proc.put(50, { command: ['server'], readBytes: 1 });
    nowMs = 1_000;
    expect(sampler.sample()).toMatchObject([{ pid: 50 }]);
    proc.put(50, { command: ['sh'], readBytes: 1 });
    nowMs = 2_000;
    expect(sampler.sample()).toMatchObject([{ state: 'missing' }]);
  });

  test('when the last matching process has ended, nothing matches', () => {
    proc.put(50, { command: ['worker'], readBytes: 1 });
    const sampler = open([byMatch(/^worker/)]);
    expect(sampler.sample()).toMatchObject([{ pid: 50 }]);
    proc.end(50);
    for (let i = 0; i < 3; i++) {
      expect(sampler.sample()).toEqual([{ state: 'missing', reason: 'no process has a command line that matches /^worker/' }]);
    }
    expect(sampler.processes, 'looked at').toBe(0);
  });

  test('children of a process that ended leave the unit, also when nothing was started since', () => {
    proc.put(50, { readBytes: 1 });
    proc.put(51, { ppid: 50, readBytes: 1 });
    proc.put(52, { ppid: 51, readBytes: 1 });
    const sampler = open([byPid(50)]);
    expect(pidsOf(sampler.sample()[0])).toEqual([50, 51, 52]);
    proc.end(51);
    proc.put(52, { ppid: 1, readBytes: 1 });
    sampler.sample();
    expect(pidsOf(sampler.sample()[0])).toEqual([50]);
  });

  test('a process that goes to another parent is not taken for one whose time its ancestors inherit', () => {
    const tracker = new UnitTracker();
    proc.put(50, { cpuTicks: 10, reapedTicks: 0, readBytes: 1 });
    proc.put(51, { ppid: 50, cpuTicks: 4, reapedTicks: 0, readBytes: 1 }); // 10 ticks in all: 6 of them in the kernel
    proc.put(52, { ppid: 51, cpuTicks: 1_000, readBytes: 1 });
    let nowMs = 0;
    const sampler = open([byPid(50)], { now: () => nowMs });
    const sample = () => {
      const reading = sampler.sample()[0] as UnitReading;
      nowMs += 1_000;
      return { pids: pidsOf(reading), cpu: tracker.read(reading).metrics.cpu_percent };
    };
    expect(sample()).toEqual({ pids: [50, 51, 52], cpu: null });
    proc.end(51); // waited for, as are others that have used 20 ticks together
    proc.put(50, { cpuTicks: 10, reapedTicks: 10 + 20, readBytes: 1 });
    proc.put(52, { ppid: 1, cpuTicks: 1_003, readBytes: 1 });
    proc.spawn(130, { readBytes: 1 }); // by which the table notices at once
    expect(sample(), 'once more, as a child of somebody else').toEqual({ pids: [50, 52], cpu: 23 });
    proc.put(50, { cpuTicks: 10, reapedTicks: 10 + 20 + 5, readBytes: 1 });
    expect(sample()).toEqual({ pids: [50], cpu: 5 });
  });

  test('a stranger under the id of a process that has left is not counted', () => {
    proc.put(50, { readBytes: 1 });
    proc.put(51, { ppid: 50, readBytes: 1 });
    proc.put(52, { ppid: 51, startTicks: 20, readBytes: 1 });
    const sampler = open([byPid(50)]);
    expect(pidsOf(sampler.sample()[0])).toEqual([50, 51, 52]);
    proc.end(51);
    proc.spawn(130, { readBytes: 1 });
    proc.setCursor(20); // once round: 52 is given out again
    proc.spawn(52, { ppid: 1, startTicks: 900, readBytes: 1 });
    proc.setCursor(60);
    expect(pidsOf(sampler.sample()[0])).toEqual([50]);
  });

  test('a stranger under the id of a process that was listed is not counted', () => {
    proc.put(50, { readBytes: 1 });
    proc.put(51, { ppid: 50, startTicks: 20, command: ['worker'], readBytes: 1 });
    const sampler = open([byPid(50), byMatch(/^worker/)]);
    expect(sampler.sample().map(pidsOf)).toEqual([[50, 51], [51]]);
    proc.put(51, { ppid: 1, startTicks: 900, command: ['worker'], readBytes: 1 });
    expect(sampler.sample().map(pidsOf), 'until the table knows it').toEqual([[50], []]);
  });

  test('a process that is gone between its two files is gone', () => {
    proc.put(50, {});
    expect(open([byPid(50)]).sample()).toEqual([{ state: 'missing', reason: 'process 50 does not exist' }]);
  });

  test('a kernel without io accounting: io is unknown, the rest is not', () => {
    rmSync(join(proc.root, 'self', 'io'));
    proc.put(50, {});
    expect(open([byPid(50)]).sample()).toMatchObject([
      { state: 'running', processes: [{ ioReadBytes: null, ioWriteBytes: null, threads: 1 }] },
    ]);
  });

  test('a unit is a zombie when all its roots are; a process whose first thread ended lives on', () => {
    proc.put(50, { state: 'Z', readBytes: 1 });
    proc.put(51, { state: 'Z', threads: 2, readBytes: 1 });
    proc.put(52, { state: 'X', threads: 0, readBytes: 1 });
    expect(
      open([byPid(50), byPid(51), byPid(52)])
        .sample()
        .map((reading) => reading.state),
    ).toEqual(['zombie', 'running', 'zombie']);
    proc.put(60, { startTicks: 5, command: ['w'], state: 'Z', readBytes: 1 });
    proc.put(61, { startTicks: 6, command: ['w'], readBytes: 1 });
    expect(open([byMatch(/^w$/)]).sample()).toMatchObject([{ state: 'running', pid: 60 }]);
  });

  test('a pid file is read at every tick', () => {
    const path = join(proc.root, 'api.pid');
    const sampler = open([{ unit: 'api', rule: { kind: 'pidfile', path }, tree: true }]);
    expect(sampler.sample()).toEqual([{ state: 'missing', reason: `${path} does not exist` }]);
    proc.put(50, { readBytes: 1 });
    writeFileSync(path, ' 50\n');
    expect(sampler.sample()).toMatchObject([{ state: 'running', pid: 50 }]);
    writeFileSync(path, '51');
    expect(sampler.sample()).toEqual([{ state: 'missing', reason: `${path} names process 51, which does not exist` }]);
  });

  test('network bytes only where the namespace is neither the host’s nor the collector’s own', () => {
    for (const [pid, namespace] of [
      [1, 'net:[1]'],
      [process.pid, 'net:[2]'],
      [50, 'net:[1]'],
      [51, 'net:[2]'],
      [52, 'net:[3]'],
      [53, 'net:[3]'],
    ] as const) {
      proc.put(pid, { ppid: pid === 1 ? 0 : 1, readBytes: 1 });
      mkdirSync(join(proc.root, String(pid), 'ns'));
      symlinkSync(namespace, join(proc.root, String(pid), 'ns/net'));
      mkdirSync(join(proc.root, String(pid), 'net'));
      if (pid !== 53) writeFileSync(join(proc.root, String(pid), 'net/dev'), 'head\nhead\n  eth0: 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0 0\n');
    }
    const readings = open([byPid(50), byPid(51), byPid(52), byPid(53)]).sample() as { netRxBytes: unknown; netTxBytes: unknown }[];
    expect(readings.map(({ netRxBytes, netTxBytes }) => [netRxBytes, netTxBytes])).toEqual([
      [null, null],
      [null, null],
      [10, 20],
      [null, null],
    ]);
  });

  test('a process that enters a namespace of its own later is noticed', () => {
    const namespace = join(proc.root, '50', 'ns', 'net');
    for (const pid of [1, 50]) {
      proc.put(pid, { ppid: 0, readBytes: 1 });
      mkdirSync(join(proc.root, String(pid), 'ns'));
      symlinkSync('net:[1]', join(proc.root, String(pid), 'ns', 'net'));
    }
    mkdirSync(join(proc.root, '50', 'net'));
    writeFileSync(join(proc.root, '50', 'net', 'dev'), 'head\nhead\n  eth0: 10 0 0 0 0 0 0 0 20 0 0 0 0 0 0 0\n');
    let nowMs = 0;
    const sampler = open([byPid(50)], { now: () => nowMs });
    expect(sampler.sample()).toMatchObject([{ netRxBytes: null }]);
    rmSync(namespace);
    symlinkSync('net:[2]', namespace);
    nowMs = 9_999;
    expect(sampler.sample()).toMatchObject([{ netRxBytes: null }]);
    nowMs = 10_000;
    expect(sampler.sample()).toMatchObject([{ netRxBytes: 10 }]);
  });

  describe('between two samples', () => {
    test('CPU and memory are read of the processes of the last sample, and of no others', () => {
      proc.put(50, { cpuTicks: 1, readBytes: 1 });
      proc.put(51, { ppid: 50, readBytes: 1 });
      const sampler = open([byPid(50), byPid(50, false)]);
      const last = sampler.sample();
      proc.put(50, { cpuTicks: 11, readBytes: 1 });
      proc.spawn(130, { ppid: 50, readBytes: 1 });
      proc.setUptime(1_000.1);
      const peaks = sampler.samplePeak();
      expect(peaks.map(pidsOf)).toEqual([[50, 51], [50]]);
      expect(peaks[0]).toMatchObject({ pid: 50, atMs: 1_000_100, processes: [{ cpuOwnMs: 130 }, { cpuOwnMs: 30 }] });
      expect(peaks[1], 'a process alone has nothing of its children').toMatchObject({ processes: [{ cpuOwnMs: 130, cpuReapedMs: 0 }] });
      expect(last[0]).toMatchObject({ processes: [{ cpuOwnMs: 30 }, { cpuOwnMs: 30 }] });
      expect(sampler.sample().map(pidsOf)).toEqual([[50, 51, 130], [50]]);
    });

    test('a unit that comes of a pattern is missing in the next sample, whatever was read before it', () => {
      proc.put(50, { command: ['worker', 'a'], readBytes: 1 });
      proc.put(51, { command: ['worker', 'b'], readBytes: 1 });
      const sampler = open([{ ...byMatch(/^worker (\w)/), name: 'worker-{match.1}' }]);
      const unitsNow = () => sampler.units.map(({ unit }) => unit);
      expect(sampler.sample()).toMatchObject([{ pid: 50 }, { pid: 51 }]);
      proc.end(51);
      for (let i = 0; i < 3; i++) expect(sampler.samplePeak()).toMatchObject([{ pid: 50 }, { state: 'missing' }]);
      expect(sampler.sample()).toMatchObject([{ pid: 50 }, { state: 'missing', reason: 'its last process has gone' }]);
      expect(unitsNow()).toEqual(['worker-a', 'worker-b']);
      sampler.samplePeak();
      expect(unitsNow()).toEqual(['worker-a', 'worker-b']);
      sampler.sample();
      expect(unitsNow()).toEqual(['worker-a']);
    });

    test('a stranger under the id of a process is not read as it; without its root there is nothing to read of a unit', () => {
      proc.put(50, { startTicks: 10, readBytes: 1 });
      proc.put(51, { ppid: 50, startTicks: 20, readBytes: 1 });
      const sampler = open([byPid(50)]);
      sampler.sample();
      proc.put(51, { ppid: 50, startTicks: 900, readBytes: 1 });
      expect(sampler.samplePeak().map(pidsOf)).toEqual([[50]]);
      proc.put(50, { startTicks: 900, readBytes: 1 });
      proc.put(51, { ppid: 50, startTicks: 20, readBytes: 1 });
      expect(sampler.samplePeak()).toEqual([{ state: 'missing', reason: 'process 50 has gone' }]);
    });

    test('before the first sample there is nothing to read', () => {
      proc.put(50, { readBytes: 1 });
      expect(open([byPid(50)]).samplePeak()).toEqual([]);
    });
  });
});
