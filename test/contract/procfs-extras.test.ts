import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { EXTRA_METRICS, type ExtraMetricName } from '#shared/contract/metrics';
import type { PresentReading } from '../../services/collector/core/unit-reading.ts';
import { UnitTracker } from '../../services/collector/core/unit-tracker.ts';
import { ProcFiles } from '../../services/collector/procfs/proc-files.ts';
import { PSS_INTERVAL_MS, PSS_RSS_BYTES_MAX, PssReader } from '../../services/collector/procfs/pss-reader.ts';
import { ProcfsSampler } from '../../services/collector/procfs/sampler.ts';
import { eventually } from '../support/eventually.ts';
import { endProcesses, firstLine, startProcess } from '../support/test-processes.ts';

const samplers: ProcfsSampler[] = [];
afterEach(async () => {
  for (const sampler of samplers.splice(0)) sampler.close();
  await endProcesses();
});

const NAMED: readonly ExtraMetricName[] = EXTRA_METRICS.filter(({ key }) => key === 'metrics_extra').map(({ name }) => name);

function open(pid: number, extras = NAMED) {
  const sampler = new ProcfsSampler([{ unit: 'u', rule: { kind: 'pid', pid }, tree: true }], { extras });
  samplers.push(sampler);
  const tracker = new UnitTracker(extras);
  return () => {
    const reading = sampler.sample()[0] as PresentReading;
    return { reading, metrics: tracker.read(reading).metrics };
  };
}
const numberIn = (path: string, key: RegExp): number => Number(key.exec(readFileSync(path, 'latin1'))?.[1]);

describe('extra metrics', () => {
  test('of a tree are what /proc says of its processes', async () => {
    const script = 'exec 5</dev/null 6</dev/null; ulimit -Sn 77; sleep 1000 5<&- 6<&- & echo up; wait';
    const shell = startProcess('sh', ['-c', script]);
    await firstLine(shell);
    const sample = open(shell.pid);
    const count = (pid: number): number => Number(execFileSync('sh', ['-c', `ls /proc/${pid}/fd | wc -l`], { encoding: 'utf8' }));
    const { reading, metrics } = await eventually(() => {
      const now = sample();
      expect(now.reading.processes).toHaveLength(2);
      expect(now.metrics.open_fds, 'the child has closed those it was given').toBe(
        now.reading.processes.reduce((sum, { pid }) => sum + count(pid), 0),
      );
      return now;
    });
    const pids = reading.processes.map(({ pid }) => pid);
    expect(metrics.open_fds).toBe(pids.reduce((sum, pid) => sum + count(pid), 0));
    expect(metrics.open_fds).toBeGreaterThanOrEqual(8);
    expect(metrics.fd_limit).toBe(77);
    expect(metrics.swap_bytes).toBe(0);
    const pss = pids.reduce((sum, pid) => sum + numberIn(`/proc/${pid}/smaps_rollup`, /^Pss:\s+(\d+) kB$/m) * 1024, 0);
    expect(Math.abs((metrics.pss_bytes ?? 0) - pss) / pss).toBeLessThan(0.5); // others start and end, and share with it
    expect(metrics.pss_bytes).toBeLessThan(metrics.rss_bytes ?? 0);
    const faults = Number(readFileSync(`/proc/${shell.pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ')[9]);
    expect(metrics.major_faults).toBeGreaterThanOrEqual(faults);
  });

  test('CPU is parted into user mode and kernel', async () => {
    const child = startProcess('sh', ['-c', 'echo up; while :; do :; done']);
    await firstLine(child);
    const sample = open(child.pid);
    expect(sample().metrics).not.toHaveProperty('cpu_user_percent');
    const { cpu_percent, cpu_user_percent, cpu_system_percent } = await eventually(() => {
      const { metrics } = sample();
      expect(metrics.cpu_user_percent).toBeGreaterThan(10);
      return metrics;
    });
    expect(cpu_user_percent).toBeGreaterThan(cpu_system_percent ?? Number.NaN);
    expect((cpu_user_percent ?? 0) + (cpu_system_percent ?? 0)).toBeCloseTo(cpu_percent ?? Number.NaN, 1);
  });

  test('context switches are those of all threads, and do not go back when one ends', async () => {
    const script = `
import threading, time
def work(rounds):
    for _ in range(rounds): time.sleep(0.001)
threading.Thread(target=work, args=(150,)).start()
print('up', flush=True)
work(1000000)`;
    const child = startProcess('python3', ['-c', script]);
    await firstLine(child);
    const sample = open(child.pid, ['voluntary_ctx_switches', 'involuntary_ctx_switches']);
    const ofLeader = (): number => numberIn(`/proc/${child.pid}/status`, /^voluntary_ctxt_switches:\s+(\d+)$/m);
    let last = 0;
    const read = (): number => {
      const { metrics } = sample();
      expect(metrics.voluntary_ctx_switches).toBeGreaterThanOrEqual(last);
      expect(metrics.involuntary_ctx_switches).toBeGreaterThanOrEqual(0);
      last = metrics.voluntary_ctx_switches ?? Number.NaN;
      return last;
    };
    await eventually(() => expect(read()).toBeGreaterThan(ofLeader() + 50));
    await eventually(() => {
      read();
      expect(readFileSync(`/proc/${child.pid}/status`, 'latin1')).toContain('Threads:\t1\n');
    });
    expect(read(), 'of the thread that has ended, too').toBeGreaterThan(ofLeader() + 50);
    expect(read(), 'each once').toBeLessThan(ofLeader() + 400);
  });

  test('nothing of them is read or known unless it is asked for', async () => {
    const { reading, metrics } = open(process.pid, [])();
    for (const name of NAMED) expect(metrics).not.toHaveProperty(name);
    for (const key of ['openFilesMax', 'pssBytes']) expect(reading).not.toHaveProperty(key);
    expect(reading.processes[0]).not.toHaveProperty('details');
  });

  test('what may not be read is not known, and the sampler says why', (context) => {
    const { seteuid, geteuid } = process;
    if (seteuid === undefined || geteuid?.() !== 0) context.skip('needs root, to become somebody else');
    const child = startProcess('sleep', ['1000']);
    const sample = open(child.pid);
    seteuid?.(65534);
    try {
      const { metrics } = sample();
      expect(metrics).not.toHaveProperty('pss_bytes');
      expect(metrics).toMatchObject({ swap_bytes: 0, voluntary_ctx_switches: expect.any(Number) });
      expect(samplers[0]?.problems).toEqual(
        expect.arrayContaining([expect.stringMatching(/^memory maps of 1 units may not be read, so their pss_bytes is unknown: run/)]),
      );
    } finally {
      seteuid?.(0);
    }
  });
});

describe('PssReader', () => {
  const self = (rssBytes: number) => [{ pid: process.pid, rssBytes }];

  test('reads a unit once a minute, a large one not at all', () => {
    let nowMs = 0;
    const reader = new PssReader(new ProcFiles(), () => nowMs);
    const read = (unit: string, rssBytes = 4096): number | null => {
      reader.beginRound();
      return reader.read(unit, self(rssBytes));
    };
    expect(read('a')).toBeGreaterThan(0);
    expect(read('a')).toBeNull();
    nowMs = PSS_INTERVAL_MS - 1;
    expect(read('a')).toBeNull();
    expect(read('b', PSS_RSS_BYTES_MAX), 'another unit').toBeGreaterThan(0);
    nowMs++;
    expect(read('a')).toBeGreaterThan(0);
    expect(read('c', PSS_RSS_BYTES_MAX + 1)).toBeNull();
    expect(reader.tooLarge).toBe(1);
    reader.beginRound();
    expect(reader.tooLarge).toBe(0);
  });

  test('a tick spends no more than a moment on it: the other units have their turn at the next', () => {
    let nowMs = 0;
    const reader = new PssReader(new ProcFiles(), () => (nowMs += 5));
    const round = (): boolean[] => {
      reader.beginRound();
      return ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((unit) => reader.read(unit, self(4096)) !== null);
    };
    const first = round();
    const second = round();
    expect(first).toEqual([true, true, true, true, false, false, false, false]);
    expect(second).toEqual(first.map((wasRead) => !wasRead));
  });
});
