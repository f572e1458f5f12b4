import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { METRIC_NAMES } from '#shared/contract/metrics';
import type { PresentReading } from '../../services/collector/core/unit-reading.ts';
import type { UnitTarget } from '../../services/collector/core/unit-target.ts';
import { type UnitSample, UnitTracker } from '../../services/collector/core/unit-tracker.ts';
import { ProcfsSampler, type ProcfsSamplerOptions } from '../../services/collector/procfs/sampler.ts';
import { eventually } from '../support/eventually.ts';
import { BUSY, cpuMsOf, endProcess, endProcesses, firstLine, startProcess, startProcessAs } from '../support/test-processes.ts';

const samplers: ProcfsSampler[] = [];
const directory = mkdtempSync(join(tmpdir(), 'spillway-procfs-'));
afterEach(async () => {
  for (const sampler of samplers.splice(0)) sampler.close();
  await endProcesses();
});
afterAll(() => rmSync(directory, { recursive: true }));

function open(target: Partial<UnitTarget> & Pick<UnitTarget, 'rule'>, options: ProcfsSamplerOptions = {}) {
  const sampler = new ProcfsSampler([{ unit: 'u', tree: true, ...target }], options);
  samplers.push(sampler);
  const tracker = new UnitTracker();
  const reading = () => sampler.sample()[0];
  return { sampler, reading, sample: (): UnitSample => tracker.read(reading() ?? { state: 'missing', reason: 'none' }) };
}
/** CPU of the tree, of children that were waited for as well. */
const cpuMsIn = ({ processes }: PresentReading): number =>
  processes.reduce((sum, { cpuOwnMs, cpuReapedMs }) => sum + cpuOwnMs + cpuReapedMs, 0);
const present = (reading: ReturnType<ReturnType<typeof open>['reading']>): PresentReading => {
  if (reading === undefined || reading.state === 'missing') throw new Error(`missing: ${reading?.reason}`);
  return reading;
};
const byPid = (pid: number) => ({ kind: 'pid', pid }) as const;

describe('ProcfsSampler', () => {
  test('the CPU of a tree is what its processes used, whoever of them did', async () => {
    // The shell waits for its first child, which is then in its reaped time; the second goes on.
    const node = process.execPath;
    const shell = startProcess('sh', [
      '-c',
      `"${node}" -e 'const e = process.cpuUsage; while (e().user < 200000);'; echo reaped; "${node}" -e '${BUSY}' & echo $!; wait`,
    ]);
    const { reading, sample } = open({ rule: byPid(shell.pid) });
    const before = present(reading());
    const first = sample();
    const begun = present(reading());
    await firstLine(shell);
    const busy = await eventually(() => {
      const child = present(reading()).processes.find((one) => one.pid !== shell.pid && one.cpuOwnMs > 300);
      if (child === undefined) throw new Error('no busy child yet');
      return child.pid;
    });
    const lowerMs = cpuMsOf(busy);
    const after = present(reading());
    const upperMs = cpuMsOf(busy);
    const child = after.processes.find((one) => one.pid === busy);
    expect(child?.cpuOwnMs).toBeGreaterThanOrEqual(lowerMs);
    expect(child?.cpuOwnMs).toBeLessThanOrEqual(upperMs);
    const root = after.processes.find((one) => one.pid === shell.pid);
    expect(root?.cpuReapedMs, 'the first child, from the time it was waited for').toBeGreaterThanOrEqual(200);
    const second = sample();
    expect(first.metrics.cpu_percent).toBeNull();
    const end = present(reading());
    // The percentage stands for CPU time between the two samples: at least what was used between the readings inside, in no more
    // than the time between those outside, and the other way round. CPU time comes in ticks of 10 ms.
    const usedMsOver = (ms: number): number => ((second.metrics.cpu_percent ?? 0) / 100) * ms;
    expect(usedMsOver(end.monotonicMs - before.monotonicMs)).toBeGreaterThanOrEqual(cpuMsIn(after) - cpuMsIn(begun) - 20);
    expect(usedMsOver(after.monotonicMs - begun.monotonicMs)).toBeLessThanOrEqual(cpuMsIn(end) - cpuMsIn(before) + 20);
  });

  test('resident memory is what ps says', async () => {
    const child = startProcess(process.execPath, [
      '-e',
      'globalThis.held = Buffer.alloc(60 << 20, 1); console.log("ready"); setInterval(() => {}, 1e6);',
    ]);
    await firstLine(child);
    const { sample } = open({ rule: byPid(child.pid) });
    await eventually(() => {
      const rss = sample().metrics.rss_bytes ?? 0;
      const ps = Number(execFileSync('ps', ['-o', 'rss=', '-p', String(child.pid)], { encoding: 'utf8' })) * 1024;
      expect(rss).toBeGreaterThan(60 << 20);
      expect(Math.abs(rss - ps) / ps).toBeLessThan(0.1);
    });
  });

  test('threads and io are those of /proc, and io includes what children that were waited for wrote', async () => {
    const file = join(directory, 'written');
    const shell = startProcess('sh', [
      '-c',
      // Stops itself: a child that waits in its place would have written too, at times, when the file it is made from was read.
      `dd if=/dev/zero of=${file} bs=64k count=16 conv=fsync 2>/dev/null; rm ${file}; echo done; kill -STOP $$`,
    ]);
    await firstLine(shell);
    const { sample } = open({ rule: byPid(shell.pid) });
    const written = sample().metrics.io_write_bytes;
    const own = Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${shell.pid}/io`, 'latin1'))?.[1]);
    expect(written).toBe(own);
    expect(written).toBeGreaterThanOrEqual(1 << 20);
    const node = startProcess(process.execPath, ['-e', 'console.log("up"); setInterval(() => {}, 1e6);']);
    await firstLine(node);
    const other = open({ rule: byPid(node.pid) });
    await eventually(() => {
      const threads = Number(/^Threads:\s+(\d+)$/m.exec(readFileSync(`/proc/${node.pid}/status`, 'latin1'))?.[1]);
      expect(threads).toBeGreaterThan(1);
      expect(other.sample().metrics.threads).toBe(threads);
    });
  });

  test('a process nobody waited for is a zombie; when somebody does it is missing, with nulls and no zero', async () => {
    // The parent forks, prints its child's pid, and waits for it only when it is told to.
    const script =
      'import os,signal,sys\np=os.fork()\nif p==0: os._exit(0)\nsignal.signal(signal.SIGUSR1,lambda *a:os.waitpid(p,0))\nprint(p,flush=True)\nwhile True: signal.pause()';
    const parent = startProcess('python3', ['-c', script]);
    const { sample } = open({ rule: byPid(Number(await firstLine(parent))) });
    const zombie = await eventually(() => {
      const now = sample();
      expect(now.state).toBe('zombie');
      return now;
    });
    expect(zombie.metrics).toMatchObject({ rss_bytes: 0, threads: 1 });
    expect(zombie.metrics.io_read_bytes).not.toBeUndefined();
    parent.kill('SIGUSR1');
    const missing = await eventually(() => {
      const now = sample();
      expect(now.state).toBe('missing');
      return now;
    });
    expect(missing).toMatchObject({ pid: null, started: null });
    for (const name of METRIC_NAMES) expect(missing.metrics[name], name).toBeNull();
  });

  test('a process whose first thread has ended is not a zombie while others run', async () => {
    const script =
      'import ctypes,threading,time\nthreading.Thread(target=lambda:time.sleep(1000)).start()\nprint("up",flush=True)\nctypes.CDLL(None).pthread_exit(None)';
    const child = startProcess('python3', ['-c', script]);
    await firstLine(child);
    const { sample } = open({ rule: byPid(child.pid) });
    await eventually(() => expect(readFileSync(`/proc/${child.pid}/stat`, 'latin1')).toContain(') Z '));
    expect(sample()).toMatchObject({ state: 'running', metrics: { threads: 2 } });
  });

  test('a restart behind a pid file is a new incarnation, and what was lost in between is missing', async () => {
    const path = join(directory, 'api.pid');
    const first = startProcess('sleep', ['1000']);
    writeFileSync(path, `${first.pid}\n`);
    const { sample } = open({ rule: { kind: 'pidfile', path } });
    const before = sample();
    expect(before).toMatchObject({ state: 'running', pid: first.pid });
    expect(sample().metrics.cpu_percent).toBe(0);
    await endProcess(first);
    expect(sample().state).toBe('missing');
    const second = startProcess('sleep', ['1000']);
    writeFileSync(path, `${second.pid}\n`);
    const after = sample();
    expect(after).toMatchObject({ state: 'running', pid: second.pid, metrics: { cpu_percent: null } });
    expect(after.started).toBeGreaterThanOrEqual(before.started ?? Number.POSITIVE_INFINITY);
  });

  test('the start time is the wall clock time of the start', async () => {
    const beforeMs = Date.now();
    const child = startProcess('sleep', ['1000']);
    const afterMs = Date.now();
    const { started } = open({ rule: byPid(child.pid) }).sample();
    // The boot time has whole seconds and start times have ticks of 10 ms.
    expect(started).toBeGreaterThanOrEqual(beforeMs - 1_100);
    expect(started).toBeLessThanOrEqual(afterMs + 1_100);
  });

  test('a reused pid is another incarnation, also of a descriptor that is open', async (context) => {
    const first = startProcess('sleep', ['1000']);
    const { reading, sample } = open({ rule: byPid(first.pid) });
    const before = sample();
    expect(sample().metrics.cpu_percent).not.toBeNull();
    // Start times have a resolution of 10 ms.
    await eventually(() => {
      const now = present(reading());
      expect(now.atMs).toBeGreaterThan(now.startMs + 50);
    });
    await endProcess(first);
    const second = await startProcessAs(first.pid);
    if (second === null) context.skip('the next pid cannot be chosen: /proc/sys/kernel/ns_last_pid is not writable');
    const after = sample();
    expect(after).toMatchObject({ state: 'running', pid: first.pid, metrics: { cpu_percent: null } });
    expect(after.started).not.toBe(before.started);
  });

  test('a match follows processes as they come and go, each counted once', async () => {
    const token = `spillway-match-${process.pid}`;
    const { reading } = open({ rule: { kind: 'match', expression: new RegExp(token), user: null } });
    expect(reading()).toEqual({ state: 'missing', reason: `no process has a command line that matches /${token}/` });
    // The children match as well, by the command line they inherit until they execute something else.
    const parent = startProcess('sh', ['-c', `: ${token}; sleep 1000 & sleep 1001 & wait`]);
    const first = await eventually(() => {
      const now = present(reading());
      expect(now.processes).toHaveLength(3);
      return now;
    });
    expect(first.pid).toBe(parent.pid);
    expect(new Set(first.processes.map((one) => one.pid)).size).toBe(3);
    const other = startProcess('sh', ['-c', `: ${token}; sleep 1002 & wait`]);
    await eventually(() => expect(present(reading()).processes).toHaveLength(5));
    process.kill(-parent.pid, 'SIGKILL');
    await endProcess(parent);
    await eventually(() => expect(present(reading())).toMatchObject({ pid: other.pid, processes: { length: 2 } }));
  });

  test('bytes of a network namespace of its own are counted, those of the host’s are not', async (context) => {
    const child = startProcess('unshare', [
      '-n',
      'sh',
      '-c',
      'ip link add d0 type dummy 2>/dev/null && ip addr add 10.9.9.1/24 dev d0 && ip link set d0 up; echo up; sleep 1000 & wait',
    ]);
    await firstLine(child).catch(() => context.skip('a network namespace cannot be made here'));
    const { metrics } = open({ rule: byPid(child.pid) }).sample();
    expect(metrics.net_rx_bytes).toBe(0);
    expect(metrics.net_tx_bytes).toBeGreaterThanOrEqual(0);
    const own = open({ rule: { kind: 'self' } }).sample();
    expect(own).toMatchObject({ pid: process.pid, metrics: { net_rx_bytes: null, net_tx_bytes: null } });
  });

  test('io that may not be read is unknown, and the sampler says so; everything else is known', (context) => {
    const { seteuid, geteuid } = process;
    if (seteuid === undefined || geteuid?.() !== 0) context.skip('needs root, to become somebody else');
    const child = startProcess('sleep', ['1000']);
    const { sampler, sample } = open({ rule: byPid(child.pid) });
    const NOBODY = 65534;
    seteuid?.(NOBODY);
    try {
      sample();
      expect(sample()).toMatchObject({
        state: 'running',
        metrics: { cpu_percent: expect.any(Number), rss_bytes: expect.any(Number), io_read_bytes: null, io_write_bytes: null, threads: 1 },
      });
      expect(sampler.problems).toEqual([expect.stringMatching(/^io of 1 processes may not be read/)]);
    } finally {
      seteuid?.(0);
    }
  });

  test('descriptors are kept for living processes only, and never more than allowed', async () => {
    const children = Array.from({ length: 5 }, () => startProcess('sleep', ['1000']));
    const targets = children.map((child) => ({ unit: `u${child.pid}`, rule: byPid(child.pid), tree: false }));
    const openFiles = (): number => readdirSync('/proc/self/fd').length;
    const before = openFiles();
    const sampler = new ProcfsSampler(targets, { descriptorsMax: 6 });
    samplers.push(sampler);
    for (let i = 0; i < 15; i++) {
      expect(sampler.sample().map((reading) => reading.state)).toEqual(Array(5).fill('running'));
      expect(openFiles() - before).toBeLessThanOrEqual(6);
    }
    const roomy = new ProcfsSampler(targets, { descriptorsMax: 100 });
    samplers.push(roomy);
    for (let i = 0; i < 16; i++) roomy.sample();
    // On a busy machine they are still on their way to rest.
    await eventually(() => {
      sampler.sample();
      roomy.sample();
      expect(openFiles() - before, 'room for three, and after a long rest the two that show whether they run').toBe(6 + 10);
    });
    roomy.close();
    const path = join(directory, 'moving.pid');
    const moving = new ProcfsSampler([{ unit: 'u', rule: { kind: 'pidfile', path }, tree: false }]);
    samplers.push(moving);
    for (const child of children) {
      writeFileSync(path, String(child.pid));
      moving.sample();
      expect(openFiles() - before, 'six of the one, stat and io of the other').toBe(8);
    }
    moving.close();
    for (const child of children) await endProcess(child);
    expect(sampler.sample().map((reading) => reading.state)).toEqual(Array(5).fill('missing'));
    expect(openFiles()).toBeLessThanOrEqual(before);
  });

  test('what rests is as it is for one who reads everything each time, and when it runs that is seen at once', async () => {
    const pipe = join(directory, 'lines');
    execFileSync('mkfifo', [pipe]);
    const work = 'i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done';
    const shell = startProcess('sh', ['-c', `exec 3<>${pipe}; while read -r line <&3; do ${work}; echo "$line"; done`]);
    const sleeper = startProcess('sleep', ['1000']);
    const targets = [shell, sleeper].map(({ pid }) => ({ unit: `u${pid}`, rule: byPid(pid), tree: true }));
    const watching = new ProcfsSampler(targets);
    // Without descriptors nothing can be watched.
    const plain = new ProcfsSampler(targets, { descriptorsMax: 0 });
    samplers.push(watching, plain);
    const processesOf = (sampler: ProcfsSampler) => sampler.sample().map((reading) => present(reading).processes);
    for (let round = 0; round < 3; round++) {
      // They may still be on their way to rest.
      const resting = await eventually(() => {
        const before = processesOf(watching);
        expect(before).toEqual(processesOf(plain));
        const again = processesOf(watching);
        for (const [i, processes] of again.entries()) expect(processes[0], 'nothing was read anew').toBe(before[i]?.[0]);
        return again;
      });
      writeFileSync(pipe, `line ${round}\n`);
      expect(await firstLine(shell)).toBe(`line ${round}`);
      const [ran] = watching.sample();
      expect(cpuMsIn(present(ran))).toBeGreaterThan((resting[0]?.[0]?.cpuOwnMs ?? 0) + (resting[0]?.[0]?.cpuReapedMs ?? 0));
    }
  });
});
