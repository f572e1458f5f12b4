// `spillway up` and the commands, as a user sees them: the built program, processes, exit codes, what is printed.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { CoverageSpan, RemoveReply, Summary, UnitInfo } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import type { SegmentVerdict } from '../../cli/spill-files.ts';
import type { Status } from '../../cli/status.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive, PROGRAM, type Running, reply, spillway, start } from '../support/program.ts';

const UP_MS = 30_000;
/** Every attempt may start a program. */
const PATIENT = { withinMs: 30_000 };
/** Enough to fill a small window in seconds. */
const UNITS = 60;

let cwd: string;
const running: Running[] = [];
const workloads: ChildProcess[] = [];
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'spillway-e2e-'));
});
afterEach(async () => {
  for (const workload of workloads.splice(0)) workload.kill('SIGKILL');
  for (const up of running.splice(0)) {
    up.signal('SIGTERM');
    await up.finished;
  }
  // Where a test killed the supervisor, its nats-server is still there.
  for (const pid of Object.values(pids())) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  rmSync(cwd, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
});

async function up(env: Record<string, string> = {}): Promise<Running> {
  const started = start(['up'], { cwd, env });
  running.push(started);
  const ended = started.finished.then(({ code, stderr }) => Promise.reject(new Error(`up ended with ${code}: ${stderr}`)));
  ended.catch(() => undefined);
  const ready = eventually(() => expect(started.stdout(), started.stderr()).toContain('is ready'), { withinMs: UP_MS });
  await Promise.race([ready, ended]);
  return started;
}

async function stop(started: Running, signal: NodeJS.Signals = 'SIGINT'): Promise<number | null> {
  running.splice(running.indexOf(started), 1);
  started.signal(signal);
  return (await started.finished).code;
}

/** Process ids by the name of what runs under `up`. */
function pids(): Record<string, number> {
  const directory = join(cwd, '.spillway', 'run');
  if (!existsSync(directory)) return {};
  const names = readdirSync(directory).filter((name) => name.endsWith('.pid'));
  return Object.fromEntries(names.map((name) => [name.slice(0, -4), Number(readFileSync(join(directory, name), 'utf8'))]));
}

interface Range {
  samples: (Sample & { seq: number })[];
  next: null;
  coverage: CoverageSpan[];
}

/** A process that burns about half of a core. */
function startWorkload(): number {
  const program = 'setInterval(() => { const end = Date.now() + 50; while (Date.now() < end); }, 100)';
  const workload = spawn(process.execPath, ['-e', program], { stdio: 'ignore' });
  workloads.push(workload);
  return workload.pid as number;
}

// Each test starts a dozen programs: on a busy machine each of them takes seconds.
describe('spillway up', { timeout: 120_000 }, () => {
  test('from nothing to samples on the screen: Spillway watches itself', async () => {
    const started = await up({ SPILLWAY_SAMPLE_INTERVAL_SECS: '0.2', SPILLWAY_HOST: 'web-1' });
    expect(started.stdout()).toMatch(
      /Spillway is ready on web-1[\s\S]*nats:\/\/127\.0\.0\.1:\d+[\s\S]*\.spillway\/spill[\s\S]*main\.js units/,
    );
    const own = ['collector', 'nats', 'spillover', 'store'];
    await eventually(async () => {
      const units = await reply<UnitInfo[]>(['units'], { cwd });
      expect(units.map((unit) => unit.unit)).toEqual(own);
      expect(units.every((unit) => unit.state === 'running' && unit.rows >= 5)).toBe(true);
    }, PATIENT);
    expect(pids()).toEqual(Object.fromEntries(own.map((name) => [name, expect.any(Number)])));

    const latest = await reply<{ samples: Sample[]; next: null }>(['latest', 'store', '--limit', '3'], { cwd });
    expect(latest.samples).toHaveLength(3);
    expect(latest.next).toBeNull();
    expect(latest.samples[0]).toMatchObject({ host: 'web-1', unit: 'store', state: 'running', pid: pids()['store'] });
    const summary = await reply<Summary>(['summary', 'web-1/nats'], { cwd });
    expect(summary.latest_rss_bytes).toBeGreaterThan(1_000_000);
    expect(await reply(['summary', 'nats', '--since', '+1h'], { cwd })).toBeNull();
    const points = await reply<{ points: unknown[] }>(['range', 'nats', '--points', '1'], { cwd });
    expect(points.points).toHaveLength(1);

    const table = await spillway(['units'], { cwd });
    expect(table.stdout).toMatch(/^HOST +UNIT +STATE +PID +STARTED +ROWS +FROM +TO\nweb-1 +collector +running +\d+/);
    const status = await reply<Status>(['status'], { cwd });
    expect(status.services.map((service) => service.service).sort()).toEqual(['collector', 'spillover', 'store']);
    expect(status.problems).toEqual([]);
    for (const name of ['collector', 'store', 'spillover']) {
      expect(await spillway(['health', name], { cwd }), name).toMatchObject({ code: 0, stdout: `${name} is ready\n`, stderr: '' });
    }
    const targets = await reply<{ unit: string; state: string }[]>(['targets'], { cwd });
    expect(targets.map((target) => `${target.unit} ${target.state}`).sort()).toEqual(own.map((name) => `${name} running`));

    const tail = start(['tail', 'nats', '--json'], { cwd });
    await eventually(() => expect(tail.stdout().split('\n').length).toBeGreaterThan(2), PATIENT);
    tail.signal('SIGINT');
    const { code, stdout } = await tail.finished;
    expect(code).toBe(0);
    expect(JSON.parse(stdout.split('\n')[0] ?? '')).toMatchObject({ host: 'web-1', unit: 'nats' });

    const removed = await spillway(['remove', 'nats'], { cwd });
    expect(removed).toMatchObject({ code: 0, stdout: expect.stringMatching(/^web-1\/nats: \d+ rows forgotten\n$/) });
    expect(removed.stderr).toContain('in the spill');
    const rest = await reply<{ samples: Sample[] }>(['snapshot', 'web-1/collector'], { cwd });
    const { rows, seq } = await reply<RemoveReply>(['remove', 'collector'], { cwd });
    expect(rows).toBeGreaterThanOrEqual(rest.samples.length);
    await eventually(async () => {
      const { samples } = await reply<{ samples: Sample[] }>(['snapshot', 'web-1/collector'], { cwd });
      expect(samples[0]?.seq, 'it is collected still, and begins anew').toBeGreaterThan(seq);
    });
    expect(await spillway(['remove', 'web-1/nope'], { cwd })).toMatchObject({ code: 1, stdout: '' });
  });

  test('a busy process under a small budget: memory spills, and both are read as one', async () => {
    const pid = startWorkload();
    const units = Array.from({ length: UNITS }, (_, i) => `  u${i}: { pid: ${pid}, tree: false }`);
    writeFileSync(
      join(cwd, 'spillway.yaml'),
      `own_unit: false\nmetrics: { spillover_segment_bytes: 200000 }\nunits:\n${units.join('\n')}\n`,
    );
    const started = await up({ SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1' });
    const sealed = await eventually(
      async () => {
        const { segments } = await reply<{ segments: { rows: number; sealed: boolean }[] }>(['segments'], { cwd });
        expect(segments.filter((segment) => segment.sealed).length).toBeGreaterThan(1);
        return segments;
      },
      { withinMs: 60_000, everyMs: 500 },
    );
    expect(sealed[0]?.rows).toBeGreaterThan(100);

    const samples = await eventually(async () => {
      const range = await reply<Range>(['range', '--from', '-5m'], { cwd });
      expect(
        range.coverage.map((span) => span.source),
        'nothing in transit',
      ).toEqual(['spill', 'window']);
      return range.samples;
    }, PATIENT);
    const last = Math.max(...samples.map((sample) => sample.seq));
    expect(samples.length, 'one sample for each unit and tick').toBe(UNITS * last);
    expect(new Set(samples.map((sample) => `${sample.unit} ${sample.seq}`)).size).toBe(samples.length);
    const ofOne = samples.filter((sample) => sample.unit === 'u0');
    expect(ofOne.map((sample) => sample.seq)).toEqual(Array.from({ length: last }, (_, i) => i + 1));
    expect(ofOne.every((sample, i) => i === 0 || sample.ts > (ofOne[i - 1]?.ts ?? 0))).toBe(true);
    const busy = await reply<Summary>(['summary', 'u7'], { cwd });
    expect(busy.average_cpu_percent).toBeGreaterThan(0);

    expect((await spillway(['segments', 'verify', '--json'], { cwd })).code).toBe(0);
    const { custody, collector_custody } = await reply<Status>(['status'], { cwd });
    expect(custody).toEqual([expect.objectContaining({ shard: 0, lost_rows: 0, doubled_rows: 0, holds: true })]);
    expect(collector_custody).toEqual([expect.objectContaining({ dropped_rows: 0, holds: true })]);
    const spill = join(cwd, '.spillway', 'spill', '0');
    unlinkSync(join(spill, readdirSync(spill).filter((name) => name.endsWith('.gz'))[0] as string));
    await eventually(
      async () => {
        const unlawful = await spillway(['status'], { cwd });
        expect(unlawful.stdout).toContain(`does NOT hold: ${sealed[0]?.rows} rows are lost by the spill: `);
        expect(unlawful.code).toBe(1);
      },
      { withinMs: 20_000, everyMs: 500 },
    );
    expect(await stop(started)).toBe(0);
    const verified = await reply<{ segments: SegmentVerdict[]; ok: boolean }>(['segments', 'verify'], { cwd });
    expect(verified.ok).toBe(true);
    const dump = await spillway(['segments', 'dump'], { cwd });
    const rows = verified.segments.reduce((sum, segment) => sum + segment.rows, 0);
    expect(dump.stdout.split('\n').length - 1).toBe(rows);
  });

  test('Ctrl-C ends everything, and the next start has the history of the first', async () => {
    const first = await up({ SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1' });
    const seen = await eventually(async () => {
      const { samples } = await reply<{ samples: Sample[] }>(['latest', 'nats', '-n', '1000'], { cwd });
      expect(samples.length).toBeGreaterThan(5);
      return samples;
    }, PATIENT);
    const before = Object.values(pids());
    expect(before).toHaveLength(4);
    // npm repeats the signal that the terminal has already sent to the whole group.
    first.signal('SIGINT');
    expect(await stop(first)).toBe(0);
    expect(before.filter(isAlive)).toEqual([]);
    expect(readdirSync(join(cwd, '.spillway', 'run'))).toEqual([]);
    expect(existsSync(join(cwd, '.spillway', 'up.json'))).toBe(false);

    await up({ SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1' });
    const { samples } = await reply<{ samples: Sample[] }>(['snapshot', 'nats'], { cwd });
    expect(samples.slice(0, seen.length)).toEqual(seen);
  });

  test('units are read again when spillway.yaml changes and on SIGHUP; a wrong one changes nothing', async () => {
    const file = join(cwd, 'spillway.yaml');
    const pid = startWorkload();
    const units = async () => (await reply<{ unit: string }[]>(['targets'], { cwd })).map(({ unit }) => unit);
    const newest = async (unit: string) => (await reply<{ samples: Sample[] }>(['latest', unit, '-n', '1'], { cwd })).samples[0];
    writeFileSync(file, `units: { a: { pid: ${pid} } }\n`);
    const started = await up({ SPILLWAY_SAMPLE_INTERVAL_SECS: '0.2', SPILLWAY_HOST: 'h1' });
    const watch = start(['targets', '--watch', '--json'], { cwd });
    running.push(watch);
    await eventually(() => expect(watch.stdout()).toContain('"unit":"a"'), PATIENT);

    writeFileSync(file, `units: { b: { pid: ${pid} } }\n`);
    await eventually(async () => expect(await newest('h1/b')).toMatchObject({ unit: 'b', pid }), PATIENT);
    expect(await units()).toEqual(['b']);

    writeFileSync(file, 'units: { c: {} }\n');
    await eventually(
      () => expect(started.stderr()).toMatch(/is not used, the units are those from before: .*units\.c: needs exactly one of/s),
      PATIENT,
    );
    expect(readFileSync(join(cwd, '.spillway', 'spillway.yaml'), 'utf8'), 'what its services go by').toMatch(/^units:\n {2}b:/m);

    writeFileSync(file, `units: { d: { pid: ${pid} } }\n`);
    started.signal('SIGHUP');
    await eventually(async () => expect(await newest('h1/d')).toMatchObject({ unit: 'd', pid }), PATIENT);
    await eventually(() => expect(watch.stdout()).toMatch(/"unit":"b".*\n.*"unit":"d"/s), PATIENT);
    watch.signal('SIGINT');
    expect(await watch.finished).toMatchObject({ code: 0, stderr: expect.stringContaining('units.c: needs exactly one of') });
    expect(await stop(started)).toBe(0);
  });

  test('a collector that has no terminal reads its units again on SIGHUP, and does not end', async () => {
    const file = join(cwd, 'spillway.yaml');
    writeFileSync(file, 'units: { a: { self: true } }\n');
    const collector = start(['collector'], { cwd, env: { SPILLWAY_NATS_SERVERS: 'nats://127.0.0.1:1' } });
    running.push(collector);
    await eventually(() => expect(collector.stdout(), 'it has started').not.toBe(''), PATIENT);
    writeFileSync(file, 'units: { b: {} }\n');
    await eventually(() => {
      collector.signal('SIGHUP');
      expect(collector.stdout()).toContain('the changed configuration is not used');
    }, PATIENT);
    expect(isAlive(collector.pid)).toBe(true);
  });

  test('runs once in a directory', async () => {
    const started = await up();
    const second = await spillway(['up'], { cwd });
    expect(second).toMatchObject({ code: 1, stdout: '' });
    expect(second.stderr).toContain(`already runs in this directory (process ${started.pid})`);
    expect(await stop(started, 'SIGTERM')).toBe(0);
  });

  test('a service that dies is started again, and nothing of what was read is lost or doubled', async () => {
    const started = await up({ SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1' });
    for (const name of ['store', 'spillover', 'collector', 'nats']) {
      const old = pids()[name] as number;
      process.kill(old, 'SIGKILL');
      await eventually(() => {
        expect(pids()[name]).toEqual(expect.any(Number));
        expect(pids()[name]).not.toBe(old);
        expect(started.stderr()).toContain(`${name} ended (SIGKILL)`);
      }, PATIENT);
    }
    await eventually(async () => {
      for (const name of ['collector', 'store', 'spillover']) expect((await spillway(['health', name], { cwd })).code, name).toBe(0);
    }, PATIENT);
    const { samples } = await reply<Range>(['range', 'nats'], { cwd });
    const seqs = samples.map((sample) => sample.seq).sort((a, b) => a - b);
    expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, i) => i + 1));
  });

  test('when the supervisor is killed its services end, and the next start ends its NATS server and goes on', async () => {
    const first = await up({ SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1' });
    const left = pids();
    expect(await stop(first, 'SIGKILL')).toBeNull();
    await eventually(() => {
      for (const name of ['collector', 'store', 'spillover']) expect(isAlive(left[name] as number), name).toBe(false);
    }, PATIENT);
    const second = await up();
    expect(second.stderr()).toContain('left running: nats');
    expect(isAlive(left['nats'] as number)).toBe(false);
  });
});

describe('what goes wrong', () => {
  test('a bad configuration: every problem, exit code 2, and nothing is started', async () => {
    writeFileSync(join(cwd, 'spillway.yaml'), 'metrics: { retention_minutes: 0 }\nunits: { api: {} }\n');
    for (const command of ['up', 'collector', 'store', 'spillover', 'check', 'units']) {
      const { code, stdout, stderr } = await spillway([command], { cwd });
      expect({ command, code, stdout }).toEqual({ command, code: 2, stdout: '' });
      expect(stderr).toMatch(/2 problems:\n {2}metrics\.retention_minutes: .*\n {2}units\.api: needs exactly one of/);
    }
    expect(existsSync(join(cwd, '.spillway'))).toBe(false);
  });

  test('a wrong command line: exit code 2', async () => {
    const lines = [
      ['unit'],
      ['latest'],
      ['units', '--no-such'],
      ['latest', 'x', '-n', 'many'],
      ['range', '--from', 'yesterday'],
      ['health', 'gateway'],
    ];
    for (const args of lines) {
      const { code, stderr } = await spillway(args, { cwd });
      expect(code, args.join(' ')).toBe(2);
      expect(stderr.trim().split('\n').length, stderr).toBeLessThan(4);
    }
    expect((await spillway(['--help'], { cwd })).code).toBe(0);
    expect(await spillway(['--version'], { cwd })).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });

  test('no NATS server: one sentence that says where and what to do, exit code 1', async () => {
    const { code, stdout, stderr } = await spillway(['units', '--server', 'nats://127.0.0.1:1'], { cwd });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^spillway: NATS at nats:\/\/127\.0\.0\.1:1: connection refused.*spillway up.*\n$/);
  });

  test('a unit that is not there, or on more than one host', async () => {
    await up();
    const unknown = await spillway(['latest', 'nginx'], { cwd });
    expect(unknown).toMatchObject({ code: 1, stdout: '' });
    expect(unknown.stderr).toMatch(/^spillway: no unit in the window is called nginx; .*\n$/);
    expect(await reply<Range>(['range', 'web-9/nginx'], { cwd })).toMatchObject({ samples: [] });
    expect(await reply(['latest', 'web-9/nginx'], { cwd })).toEqual({ samples: [], next: null });
    expect(await reply(['summary', 'web-9/nginx'], { cwd })).toBeNull();
    const snapshot = await spillway(['snapshot', 'web-9/nginx'], { cwd });
    expect(snapshot).toMatchObject({ code: 1, stdout: '' });
    expect(snapshot.stderr).toMatch(/^spillway: .*nginx.*web-9/);
  });

  test('a reader that leaves early is no error', async () => {
    await up({ SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1' });
    const script = `node "$PROGRAM" tail --json | head -n 1; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await promisify(execFile)('bash', ['-c', script], { cwd, env: { ...process.env, PROGRAM } });
    expect(stdout).toMatch(/^\{"host".*\}\n0\n$/);
    expect(stderr).toBe('');
  });
});

describe('spillway check', () => {
  test('prints what is in force and where each value is from', async () => {
    mkdirSync(join(cwd, 'etc'));
    writeFileSync(join(cwd, 'etc', 'other.yaml'), 'host: web-1\nmetrics: { spillover_path: ../spill }\n');
    const options = { cwd, env: { SPILLWAY_RETENTION_MINUTES: '5' } };
    const { code, stdout } = await spillway(['check', '--config', 'etc/other.yaml'], options);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^host +web-1 +etc\/other\.yaml$/m);
    expect(stdout).toMatch(/^metrics\.retention_minutes +5 +SPILLWAY_RETENTION_MINUTES$/m);
    expect(stdout).toMatch(/^metrics\.sample_interval_secs +1 +default$/m);
    const { settings } = await reply<{ settings: { key: string; value: unknown }[] }>(['check', '--config', 'etc/other.yaml'], options);
    expect(settings).toContainEqual({ key: 'metrics.spillover_path', value: join(cwd, 'spill'), from: join(cwd, 'etc/other.yaml') });
  });
});

describe('spillway targets', () => {
  test.skipIf(process.getuid?.() !== 0)('names what another user may not read (skipped unless run as root)', async () => {
    chmodSync(cwd, 0o755);
    writeFileSync(join(cwd, 'spillway.yaml'), 'units: { init: { pid: 1, tree: false }, hidden: { pidfile: secret/x.pid } }\n');
    mkdirSync(join(cwd, 'secret'), { mode: 0o700 });
    const nobody = ['--reuid=65534', '--clear-groups', process.execPath, PROGRAM, 'targets', '--json'];
    const { stdout } = await promisify(execFile)('setpriv', nobody, { cwd });
    expect(JSON.parse(stdout)).toMatchObject([
      { unit: 'init', state: 'running', processes: [{ pid: 1, problem: expect.stringMatching(/^its io may not be read by this user/) }] },
      { unit: 'hidden', state: 'missing', reason: `${join(cwd, 'secret/x.pid')} may not be read by this user` },
    ]);
  });
});
