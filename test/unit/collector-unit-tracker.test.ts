import { describe, expect, test } from 'vitest';
import { METRIC_NAMES } from '#shared/contract/metrics';
import { UnitTracker } from '../../services/collector/core/unit-tracker.ts';
import { presentReading, processReading } from '../support/collector-readings.ts';

const root = { pid: 10, startMs: 5_000 };

describe('UnitTracker', () => {
  test('CPU is null in the first sample, then percent of one core with two decimals', () => {
    const tracker = new UnitTracker();
    const first = tracker.read(presentReading(10_000, [processReading({ ...root, cpuOwnMs: 700 })]));
    expect(first).toMatchObject({ state: 'running', pid: 10, started: 1_763_670_005_000, metrics: { cpu_percent: null } });
    const second = tracker.read(presentReading(11_001, [processReading({ ...root, cpuOwnMs: 710 })]));
    expect(second.metrics.cpu_percent).toBe(1); // 10 ms of 1001 ms is 0.999 %
    expect(tracker.read(presentReading(14_001, [processReading({ ...root, cpuOwnMs: 720 })])).metrics.cpu_percent).toBe(0.33);
    expect(tracker.read(presentReading(15_001, [processReading({ ...root, cpuOwnMs: 4_720 })])).metrics.cpu_percent).toBe(400);
  });

  test('two readings at the same moment give no percentage instead of a division by zero', () => {
    const tracker = new UnitTracker();
    tracker.read(presentReading(10_000, [processReading(root)]));
    expect(tracker.read(presentReading(10_000, [processReading({ ...root, cpuOwnMs: 10 })])).metrics.cpu_percent).toBeNull();
  });

  test('a tree is the sum of its processes; what one of them does not tell is unknown for all', () => {
    const tracker = new UnitTracker();
    const child = processReading({ pid: 11, ppid: 10, rssBytes: 1_000, threads: 3, ioReadBytes: 5, ioWriteBytes: null });
    const { metrics } = tracker.read(presentReading(10_000, [processReading({ ...root, ioReadBytes: 7, ioWriteBytes: 9 }), child]));
    expect(metrics).toMatchObject({ rss_bytes: 5_096, threads: 4, io_read_bytes: 12, io_write_bytes: null });
    const unknown = tracker.read(presentReading(11_000, [processReading({ ...root, threads: null })]));
    expect(unknown.metrics.threads).toBeNull();
  });

  test('missing is all null, never zero, and the same incarnation goes on when it comes back', () => {
    const tracker = new UnitTracker();
    tracker.read(presentReading(10_000, [processReading({ ...root, cpuOwnMs: 100, ioReadBytes: 50 })]));
    const missing = tracker.read({ state: 'missing', reason: 'gone' });
    expect(missing).toMatchObject({ state: 'missing', pid: null, started: null });
    for (const name of METRIC_NAMES) expect(missing.metrics[name], name).toBeNull();
    const back = tracker.read(presentReading(12_000, [processReading({ ...root, cpuOwnMs: 300, ioReadBytes: 60 })]));
    expect(back.metrics).toMatchObject({ cpu_percent: 10, io_read_bytes: 60 });
  });

  test('a reused pid is another incarnation: CPU null, counters from its own start', () => {
    const tracker = new UnitTracker();
    tracker.read(presentReading(10_000, [processReading({ ...root, cpuOwnMs: 9_000, ioReadBytes: 500 })]));
    const reused = tracker.read(presentReading(11_000, [processReading({ pid: 10, startMs: 10_500, cpuOwnMs: 40, ioReadBytes: 3 })]));
    expect(reused).toMatchObject({ pid: 10, started: 1_763_670_010_500, metrics: { cpu_percent: null, io_read_bytes: 3 } });
  });

  test('a child that was waited for counts once: not as its own and again as its parent inherits it', () => {
    const tracker = new UnitTracker();
    const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 500, ioReadBytes: 80 });
    tracker.read(presentReading(10_000, [processReading({ ...root, ioReadBytes: 20 }), child]));
    // It used 30 ms and 5 bytes more before it ended.
    const after = tracker.read(presentReading(11_000, [processReading({ ...root, cpuReapedMs: 530, ioReadBytes: 105 })]));
    expect(after.metrics).toMatchObject({ cpu_percent: 3, io_read_bytes: 105 });
  });

  test('a child nobody waits for does not take its time back', () => {
    const tracker = new UnitTracker();
    const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 500, ioReadBytes: 80 });
    tracker.read(presentReading(10_000, [processReading({ ...root, cpuOwnMs: 100 }), child]));
    const after = tracker.read(presentReading(11_000, [processReading({ ...root, cpuOwnMs: 120 })]));
    expect(after.metrics).toMatchObject({ cpu_percent: 2, io_read_bytes: 80 });
  });

  test('a child found gone after its parent was read: the inheritance comes one reading later, and is not a spike', () => {
    const tracker = new UnitTracker();
    const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 60_000, ioWriteBytes: 1_000 });
    tracker.read(presentReading(10_000, [processReading(root), child]));
    const torn = tracker.read(presentReading(11_000, [processReading({ ...root, cpuOwnMs: 10 })]));
    expect(torn.metrics).toMatchObject({ cpu_percent: 1, io_write_bytes: 1_000 });
    const late = tracker.read(
      presentReading(12_000, [processReading({ ...root, cpuOwnMs: 10, cpuReapedMs: 60_020, ioWriteBytes: 1_001 })]),
    );
    expect(late.metrics).toMatchObject({ cpu_percent: 2, io_write_bytes: 1_001 });
  });

  test('an inheritance is waited for through one reading, then what comes is new', () => {
    const tracker = new UnitTracker();
    const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 500, ioWriteBytes: 90 });
    const read = (atMs: number, cpuReapedMs: number, ioWriteBytes: number) =>
      tracker.read(presentReading(atMs, [processReading({ ...root, cpuReapedMs, ioWriteBytes })])).metrics;
    tracker.read(presentReading(10_000, [processReading(root), child]));
    expect(read(11_000, 0, 0)).toMatchObject({ cpu_percent: 0, io_write_bytes: 90 });
    expect(read(12_000, 0, 0)).toMatchObject({ cpu_percent: 0, io_write_bytes: 90 });
    expect(read(13_000, 40, 7)).toMatchObject({ cpu_percent: 4, io_write_bytes: 97 });
  });

  test('nor is it waited for longer because the parent rests and is the same object each time', () => {
    const tracker = new UnitTracker();
    const parent = processReading(root);
    const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 500 });
    tracker.read(presentReading(10_000, [parent, child]));
    for (const atMs of [11_000, 12_000]) expect(tracker.read(presentReading(atMs, [parent])).metrics.cpu_percent).toBe(0);
    expect(tracker.read(presentReading(13_000, [{ ...parent, cpuReapedMs: 40 }])).metrics.cpu_percent).toBe(4);
  });

  test('an inheritance that has come is not taken off again', () => {
    const tracker = new UnitTracker();
    const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 500, ioWriteBytes: 90 });
    const read = (atMs: number, cpuReapedMs: number, ioWriteBytes: number) =>
      tracker.read(presentReading(atMs, [processReading({ ...root, cpuReapedMs, ioWriteBytes })])).metrics;
    tracker.read(presentReading(10_000, [processReading(root), child]));
    expect(read(11_000, 500, 90)).toMatchObject({ cpu_percent: 0, io_write_bytes: 90 });
    expect(read(12_000, 540, 97)).toMatchObject({ cpu_percent: 4, io_write_bytes: 97 });
  });

  test('a chain that ends together is inherited by the nearest ancestor that is left', () => {
    const tracker = new UnitTracker();
    const middle = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 100 });
    const leaf = processReading({ pid: 12, ppid: 11, startMs: 6_000, cpuOwnMs: 200 });
    tracker.read(presentReading(10_000, [processReading(root), middle, leaf]));
    expect(tracker.read(presentReading(11_000, [processReading({ ...root, cpuReapedMs: 310 })])).metrics.cpu_percent).toBe(1);
  });

  test('a child born and ended between two readings counts through its parent', () => {
    const tracker = new UnitTracker();
    tracker.read(presentReading(10_000, [processReading(root)]));
    expect(tracker.read(presentReading(11_000, [processReading({ ...root, cpuReapedMs: 250 })])).metrics.cpu_percent).toBe(25);
  });

  test('a process that joins late brings no past: only what it uses from then on', () => {
    const tracker = new UnitTracker();
    const joining = { pid: 20, startMs: 9_999 };
    tracker.read(presentReading(10_000, [processReading(root)]));
    const joined = tracker.read(
      presentReading(11_000, [processReading(root), processReading({ ...joining, cpuOwnMs: 7_000, ioReadBytes: 70 })]),
    );
    expect(joined.metrics).toMatchObject({ cpu_percent: 0, io_read_bytes: 0 });
    const later = tracker.read(
      presentReading(12_000, [processReading(root), processReading({ ...joining, cpuOwnMs: 7_050, ioReadBytes: 75 })]),
    );
    expect(later.metrics).toMatchObject({ cpu_percent: 5, io_read_bytes: 5 });
    const born = processReading({ pid: 21, startMs: 12_000, cpuOwnMs: 30, ioReadBytes: 2 });
    const withBorn = tracker.read(
      presentReading(13_000, [processReading(root), processReading({ ...joining, cpuOwnMs: 7_050, ioReadBytes: 75 }), born]),
    );
    expect(withBorn.metrics).toMatchObject({ cpu_percent: 3, io_read_bytes: 7 });
  });

  test('io that becomes readable again is not counted twice', () => {
    const tracker = new UnitTracker();
    tracker.read(presentReading(10_000, [processReading({ ...root, ioReadBytes: 100 })]));
    expect(tracker.read(presentReading(11_000, [processReading({ ...root, ioReadBytes: null })])).metrics.io_read_bytes).toBeNull();
    expect(tracker.read(presentReading(12_000, [processReading({ ...root, ioReadBytes: 130 })])).metrics.io_read_bytes).toBe(130);
  });

  test('network counters grow with the namespace and survive an interface that goes', () => {
    const tracker = new UnitTracker();
    const read = (atMs: number, netRxBytes: number | null, netTxBytes: number | null) =>
      tracker.read(presentReading(atMs, [processReading(root)], { netRxBytes, netTxBytes })).metrics;
    expect(read(10_000, null, null)).toMatchObject({ net_rx_bytes: null, net_tx_bytes: null });
    expect(read(11_000, 100, 10)).toMatchObject({ net_rx_bytes: 100, net_tx_bytes: 10 });
    expect(read(12_000, 150, 10)).toMatchObject({ net_rx_bytes: 150, net_tx_bytes: 10 });
    expect(read(13_000, 20, 0)).toMatchObject({ net_rx_bytes: 150, net_tx_bytes: 10 });
    expect(read(14_000, 25, 3)).toMatchObject({ net_rx_bytes: 155, net_tx_bytes: 13 });
  });

  describe('extra metrics', () => {
    const extras = ['cpu_user_percent', 'cpu_system_percent', 'major_faults', 'voluntary_ctx_switches', 'open_fds', 'fd_limit'] as const;
    const details = { openFiles: 3, swapBytes: 0, voluntarySwitches: 10, involuntarySwitches: 0 };

    test('user mode and faults of a child that was waited for count once', () => {
      const tracker = new UnitTracker(extras);
      const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 500, userOwnMs: 400, majorFaultsOwn: 7, details });
      const first = tracker.read(presentReading(10_000, [processReading({ ...root, majorFaultsOwn: 2, details }), child]));
      expect(first.metrics).toMatchObject({ major_faults: 9, open_fds: 6 });
      expect(first.metrics).not.toHaveProperty('cpu_user_percent');
      const reaped = { cpuReapedMs: 530, userReapedMs: 420, majorFaultsReaped: 8 };
      const after = tracker.read(presentReading(11_000, [processReading({ ...root, ...reaped, majorFaultsOwn: 2, details })]));
      expect(after.metrics).toMatchObject({ cpu_percent: 3, cpu_user_percent: 2, cpu_system_percent: 1, major_faults: 10, open_fds: 3 });
    });

    test('user mode is never more than the whole, also when a child that nobody waited for has been taken off', () => {
      const tracker = new UnitTracker(extras);
      const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, cpuOwnMs: 500, userOwnMs: 0 });
      tracker.read(presentReading(10_000, [processReading(root), child]));
      const after = tracker.read(presentReading(11_000, [processReading({ ...root, cpuReapedMs: 300, userReapedMs: 300 })]));
      expect(after.metrics).toMatchObject({ cpu_percent: 0, cpu_user_percent: 0, cpu_system_percent: 0 });
    });

    test('switches of a process that has ended stay counted, those from before it joined do not', () => {
      const tracker = new UnitTracker(extras);
      const own = { ...details, voluntarySwitches: 100 };
      const child = processReading({ pid: 11, ppid: 10, startMs: 6_000, details });
      tracker.read(presentReading(10_000, [processReading({ ...root, details: own }), child]));
      const late = processReading({ pid: 20, startMs: 9_000, details: { ...details, voluntarySwitches: 5_000 } });
      const after = tracker.read(presentReading(11_000, [processReading({ ...root, details: { ...own, voluntarySwitches: 104 } }), late]));
      expect(after.metrics.voluntary_ctx_switches).toBe(114);
      const next = tracker.read(presentReading(12_000, [processReading({ pid: 10, startMs: 11_500, details })]));
      expect(next.metrics.voluntary_ctx_switches, 'of a new incarnation').toBe(10);
    });

    test('what one process does not tell is left out for the unit, as is what nobody asked for', () => {
      const tracker = new UnitTracker(extras);
      const blind = processReading({ pid: 11, ppid: 10, userOwnMs: null, majorFaultsOwn: null, details: { ...details, openFiles: null } });
      const read = (atMs: number) =>
        tracker.read(presentReading(atMs, [processReading({ ...root, details }), blind], { openFilesMax: 77 })).metrics;
      read(10_000);
      const metrics = read(11_000);
      expect(Object.keys(metrics).slice(7)).toEqual(['voluntary_ctx_switches', 'fd_limit']);
      expect(metrics.fd_limit).toBe(77);
    });
  });
});
