import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PresentReading } from '../../services/collector/core/unit-reading.ts';
import { UnitTracker } from '../../services/collector/core/unit-tracker.ts';
import { presentReading, processReading } from '../support/collector-readings.ts';

// A small kernel: processes that fork, work and exit, and the accounting rules of wait(2).
interface Process {
  pid: number;
  ppid: number;
  startMs: number;
  own: number;
  reaped: number;
  io: number;
  /** Ignores SIGCHLD: its children's usage is lost. */
  ignoresChildren: boolean;
}

class Kernel {
  nowMs = 10_000;
  readonly processes: Process[] = [];
  /** What the unit's processes really used. */
  used = { cpuMs: 0, io: 0 };
  #nextPid = 100;

  fork(parent: Process | null, ignoresChildren: boolean): Process {
    const process = { pid: this.#nextPid++, ppid: parent?.pid ?? 1, startMs: this.nowMs, own: 0, reaped: 0, io: 0, ignoresChildren };
    this.processes.push(process);
    return process;
  }
  childrenOf(process: Process): Process[] {
    return this.processes.filter((one) => one.ppid === process.pid);
  }
  work(process: Process, cpuMs: number, io: number): void {
    process.own += cpuMs;
    process.io += io;
    if (this.tree().includes(process)) {
      this.used.cpuMs += cpuMs;
      this.used.io += io;
    }
  }
  exit(process: Process): void {
    for (const child of this.childrenOf(process)) child.ppid = 1;
    this.processes.splice(this.processes.indexOf(process), 1);
    const parent = this.processes.find((one) => one.pid === process.ppid);
    if (parent === undefined || parent.ignoresChildren) return;
    parent.reaped += process.own + process.reaped;
    parent.io += process.io;
  }
  tree(): Process[] {
    const tree = this.processes.slice(0, 1);
    for (const process of tree) tree.push(...this.childrenOf(process));
    return tree;
  }
  /** Reads from the root downwards; `during` happens when `position` processes have been read. */
  read(position = -1, during: (unread: Process[]) => void = () => undefined): PresentReading {
    const listed = this.tree();
    const readings = [];
    for (const [index, process] of listed.entries()) {
      if (index === position) during(listed.slice(index));
      if (!this.processes.includes(process)) continue;
      const { pid, ppid, startMs, own, reaped, io } = process;
      readings.push(processReading({ pid, ppid, startMs, cpuOwnMs: own, cpuReapedMs: reaped, ioReadBytes: io }));
    }
    return presentReading(this.nowMs, readings);
  }
}

const action = fc.oneof(
  fc.record({ do: fc.constant('fork' as const), which: fc.nat(20), ignoresChildren: fc.boolean() }),
  fc.record({ do: fc.constant('work' as const), which: fc.nat(20), cpu: fc.integer({ min: 0, max: 50 }), io: fc.nat(1000) }),
  fc.record({ do: fc.constant('exit' as const), which: fc.nat(20) }),
  fc.record({ do: fc.constant('spawnAndWait' as const), which: fc.nat(20), cpu: fc.integer({ min: 0, max: 50 }) }),
  fc.record({ do: fc.constant('read' as const), position: fc.integer({ min: -1, max: 6 }), cpu: fc.integer({ min: 0, max: 50 }) }),
);

type Action = typeof action extends fc.Arbitrary<infer Value> ? Value : never;

/** Runs a history and returns what the tracker made of it beside what really happened. */
function run(actions: readonly Action[], isOrderly: boolean) {
  const kernel = new Kernel();
  const tracker = new UnitTracker();
  kernel.fork(null, false);
  let cpuMs = 0;
  let io = 0;
  const observe = (reading: PresentReading): void => {
    const { metrics } = tracker.read(reading);
    expect(metrics.cpu_percent ?? 0).toBeGreaterThanOrEqual(0);
    expect(metrics.io_read_bytes ?? -1).toBeGreaterThanOrEqual(io);
    cpuMs += (metrics.cpu_percent ?? 0) * 10; // readings are a second apart: one percent is 10 ms
    io = metrics.io_read_bytes ?? io;
    kernel.nowMs += 1000;
  };
  observe(kernel.read());
  for (const step of actions) {
    const process = step.do === 'read' ? undefined : kernel.processes[step.which % kernel.processes.length];
    switch (step.do) {
      case 'fork':
        if (process !== undefined) kernel.fork(process, !isOrderly && step.ignoresChildren);
        break;
      case 'work':
        if (process !== undefined) kernel.work(process, step.cpu * 10, step.io);
        break;
      case 'spawnAndWait': {
        if (process === undefined) break;
        const child = kernel.fork(process, false);
        kernel.work(child, step.cpu * 10, step.cpu);
        kernel.exit(child);
        break;
      }
      case 'exit': {
        const mayExit = process !== undefined && process.ppid !== 1 && !(isOrderly && kernel.childrenOf(process).length > 0);
        if (mayExit) kernel.exit(process);
        break;
      }
      case 'read':
        observe(
          kernel.read(step.position, (unread) => {
            const leaf = unread.find((one) => one.ppid !== 1 && kernel.childrenOf(one).length === 0);
            if (leaf === undefined) return;
            kernel.work(leaf, step.cpu * 10, step.cpu);
            kernel.exit(leaf);
          }),
        );
        break;
    }
  }
  // Two more readings: what was inherited during the last one shows up in the next.
  observe(kernel.read());
  observe(kernel.read());
  return { kernel, cpuMs: Math.round(cpuMs), io };
}

describe('UnitTracker', () => {
  test('counts exactly what was used when children are waited for, also when they end in the middle of a reading', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const { kernel, cpuMs, io } = run(actions, true);
        expect(cpuMs).toBe(kernel.used.cpuMs);
        expect(io).toBe(kernel.used.io);
      }),
      { numRuns: 500 },
    );
  });

  test('with orphans and children nobody waits for: never negative, never backwards, never more than was used', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const { kernel, cpuMs, io } = run(actions, false);
        expect(cpuMs).toBeLessThanOrEqual(kernel.used.cpuMs);
        expect(io).toBeLessThanOrEqual(kernel.used.io);
      }),
      { numRuns: 500 },
    );
  });

  test('a reading is a new incarnation exactly when pid or start time of the root is another; only then CPU is null', () => {
    const life = fc.record({ pid: fc.integer({ min: 1, max: 3 }), startMs: fc.integer({ min: 1, max: 3 }), cpu: fc.nat(1000) });
    fc.assert(
      fc.property(fc.array(fc.option(life, { nil: null }), { maxLength: 30 }), (lives) => {
        const tracker = new UnitTracker();
        let current: { pid: number; startMs: number } | null = null;
        for (const [i, now] of lives.entries()) {
          if (now === null) {
            expect(tracker.read({ state: 'missing', reason: 'none' }).metrics.cpu_percent).toBeNull();
            continue;
          }
          const process = processReading({ pid: now.pid, startMs: now.startMs, cpuOwnMs: now.cpu });
          const sample = tracker.read(presentReading(10_000 + i * 1000, [process]));
          const isSame: boolean = current?.pid === now.pid && current.startMs === now.startMs;
          expect(sample.metrics.cpu_percent === null).toBe(!isSame);
          expect([sample.pid, sample.started]).toEqual([now.pid, 1_763_670_000_000 + now.startMs]);
          current = now;
        }
      }),
    );
  });
});
