// The stack an operator starts, in a real Docker engine: from nothing to the first sample, then everything that happens to it,
// one after the other. Each case ends with the custody of every row.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CoverageSpan, SegmentInfo, Summary, UnitInfo } from '#shared/contract/queries';
import { freePort } from '#shared/runtime/free-port';
import { eventually } from '../support/eventually.ts';
import type { StoredSample } from './custody.ts';
import { ROOT, Stack } from './stack.ts';

const skipReason = process.env['SPILLWAY_TEST_SKIP'];

const MULTI_HOST = ['docker-compose.yml', 'docker-compose.multi-host.yml'];
const HOSTS = ['db-1', 'docker', 'web-1', 'web-2'];
/** The smallest window, small segments, fast samples: soon full. */
const BUSY = {
  SPILLWAY_MAX_MEMORY_BYTES: '131072',
  SPILLWAY_SPILLOVER_SEGMENT_BYTES: '524288',
  SPILLWAY_SAMPLE_INTERVAL_SECS: '0.2',
};
const BUSY_UNITS = 45;
const patient = { withinMs: 120_000, everyMs: 1_000 };

const stack = new Stack(`spillway-test-${process.pid}`);
let directory: string;
/** Of the first run, on the defaults. */
let firstSample: StoredSample;

describe.skipIf(skipReason !== undefined)(`the stack of docker-compose.yml${skipReason === undefined ? '' : ` (${skipReason})`}`, () => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'spillway-units-'));
    stack.env = { SPILLWAY_NATS_PORT: `${await freePort()}`, SPILLWAY_VERSION: 'test' };
    await stack.compose('build');
  });
  afterAll(async () => {
    await stack.compose('down', '-v', '--remove-orphans');
    await stack.docker('rmi', 'spillway:test');
    rmSync(directory, { recursive: true, force: true });
  });

  test('comes up from nothing, and the first sample is on the screen', async () => {
    await stack.up();
    await stack.healthy();
    const screen = await eventually(() => stack.spillway('latest', 'workload', '-n', '1'), patient);
    expect(screen).toMatch(/^TIME +CPU % +RSS .*\n\d{4}-\d\d-\d\d .* running\n$/);
    const units = await stack.reply<UnitInfo[]>('units');
    expect(units.map(({ host, unit, state }) => `${host}/${unit} ${state}`)).toEqual(
      ['collector', 'nats', 'spillover', 'store', 'workload'].map((unit) => `docker/${unit} running`),
    );
    firstSample = await stack.newest('workload');
    expect((await stack.status()).problems).toEqual([]);
  });

  test('runs as nobody in particular, except the collector', async () => {
    for (const service of ['store', 'spillover', 'workload']) expect(await userOf(service), service).toBe('node');
    expect(await userOf('collector')).toBe('root');
  });

  test('says what is wrong at first use: a port that is taken, a volume that cannot be written, processes that cannot be read', async () => {
    const second = new Stack(`${stack.project}-second`);
    second.env = stack.env;
    const taken = await second.tryCompose('up', '-d', 'nats');
    await second.compose('down', '-v');
    expect(taken.code).not.toBe(0);
    expect(taken.stderr).toContain(`127.0.0.1:${stack.env['SPILLWAY_NATS_PORT']}`);

    const image = await stack.inspect('store', '{{.Image}}');
    const onNetwork = ['--network', `${stack.project}_default`, '--env', 'SPILLWAY_NATS_SERVERS=nats://nats:4222'];
    const spill = ['--env', 'SPILLWAY_SPILLOVER_PATH=/spill'];
    const readOnly = await stack.tryDocker('run', '--rm', '--read-only', ...onNetwork, ...spill, image, 'spillover');
    expect(readOnly).toMatchObject({ code: 2, stdout: expect.stringContaining('choose a path where a directory can be made') });
    const roots = await stack.tryDocker(
      'run',
      '--rm',
      '--user=12345',
      '--volume',
      `${directory}:/spill`,
      ...onNetwork,
      ...spill,
      image,
      'spillover',
    );
    expect(roots).toMatchObject({
      code: 2,
      stdout: expect.stringContaining('give the user that runs this service read and write permission'),
    });

    const reader = ['--detach', '--pid=host', '--env', 'SPILLWAY_HOST=nobody', '--env', 'SPILLWAY_CONFIG=/units.yaml'];
    const units = ['--volume', `${ROOT}/deploy/compose/spillway.yaml:/units.yaml:ro`];
    const container = (await stack.docker('run', ...reader, ...units, '--network=none', image, 'collector')).trim();
    try {
      await eventually(async () => {
        const log = await stack.docker('logs', container);
        expect(log).toMatch(/io of \d+ processes may not be read.*run the collector as root or with CAP_SYS_PTRACE/);
      }, patient);
    } finally {
      await stack.docker('rm', '--force', container);
    }
  });

  test('measures the CPU and the memory of the workload as the kernel does', async () => {
    const [own] = (await stack.processes('workload')).filter(({ command }) => command.startsWith('node '));
    const cpu = async (): Promise<{ atMs: number; cpuMs: number }> => {
      const stat = await stack.docker('exec', await stack.container('collector'), 'cat', `/proc/${own?.pid}/stat`);
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return { atMs: Date.now(), cpuMs: (Number(fields[11]) + Number(fields[12])) * 10 };
    };
    const first = await cpu();
    await eventually(async () => expect((await stack.newest('workload')).ts).toBeGreaterThan(first.atMs + 10_000), patient);
    const last = await cpu();
    const summary = await stack.reply<Summary>('summary', 'workload', '--since', `${first.atMs}`);
    const percent = (100 * (last.cpuMs - first.cpuMs)) / (last.atMs - first.atMs);
    expect(percent).toBeGreaterThan(1);
    expect(Math.abs((summary.average_cpu_percent ?? 0) - percent), `${summary.average_cpu_percent} % for ${percent} %`).toBeLessThan(5);

    const rssBytes = (await stack.processes('workload')).reduce((sum, process) => sum + process.rssBytes, 0);
    expect(rssBytes).toBeGreaterThan(64 * 1024 * 1024);
    expect(Math.abs((summary.latest_rss_bytes ?? 0) / rssBytes - 1)).toBeLessThan(0.1);
    await stack.requireCustody();
  });

  test('takes a changed configuration and more hosts, and keeps its history', async () => {
    const units = Array.from({ length: BUSY_UNITS }, (_, i) => `  workload-${i}: { match: "sample-workload" }`);
    const file = join(directory, 'spillway.yaml');
    writeFileSync(file, `units:\n  collector: { self: true }\n  workload: { match: "sample-workload.mjs 0.2" }\n${units.join('\n')}\n`);
    stack.files = MULTI_HOST;
    stack.env = { ...stack.env, ...BUSY, SPILLWAY_UNITS: file };
    await stack.up();
    await eventually(async () => {
      const { services } = await stack.status();
      expect(services.find(({ service }) => service === 'store')?.budget_bytes).toBe(131_072);
      expect(
        services
          .filter(({ service }) => service === 'collector')
          .map(({ where, role }) => `${where} ${role}`)
          .sort(),
      ).toEqual(HOSTS.map((host) => `${host} ${host === 'docker' ? BUSY_UNITS + 2 : 2} units`));
    }, patient);
    const samples = await stack.requireCustody();
    expect(samples).toContainEqual(firstSample);
    expect([...new Set(samples.map(({ host }) => host))].sort()).toEqual(HOSTS);
  });

  test('a host cut off the network for half a minute loses nothing, and is current at once when it is back', async () => {
    const network = `${stack.project}_default`;
    const host = await stack.container('web-1');
    await eventually(() => stack.newest('web-1/workload'), patient);
    await stack.docker('network', 'disconnect', network, host);
    const cut = await stack.newest('web-1/workload');
    await eventually(async () => expect((await stack.newest('web-2/workload')).ts).toBeGreaterThan(cut.ts + 30_000), patient);
    await stack.docker('network', 'connect', network, host);
    await eventually(async () => expect((await stack.newest('web-1/workload')).ts).toBeGreaterThan(cut.ts + 30_000), patient);
    const samples = (await stack.requireCustody()).filter(({ host: name, unit }) => name === 'web-1' && unit === 'workload');
    const backlog = samples.filter(({ ts }) => ts > cut.ts + 1_000 && ts < cut.ts + 29_000);
    expect(backlog.length).toBeGreaterThan(28 / Number(BUSY.SPILLWAY_SAMPLE_INTERVAL_SECS) / 2);
    const stored = samples.filter(({ seq }) => seq > cut.seq).sort((a, b) => a.seq - b.seq);
    // What was written to the connection before it was given up, after 15 s, the kernel may still deliver, before or after the rest.
    const firstLate = stored.findIndex(({ ts }) => ts > cut.ts + 16_000 && ts < cut.ts + 25_000);
    expect(firstLate).not.toBe(-1);
    const isFreshBefore = stored.slice(0, firstLate).some(({ ts }) => ts > cut.ts + 27_000);
    expect(isFreshBefore, 'a fresh sample is stored before the backlog').toBe(true);
  });

  test('spills to the volume when the window is full, and reads both as one', async () => {
    await eventually(
      async () => {
        const { segments } = await stack.reply<{ segments: SegmentInfo[] }>('segments');
        expect(segments.filter(({ sealed }) => sealed).length).toBeGreaterThan(0);
      },
      { ...patient, withinMs: 300_000 },
    );
    const { services } = await stack.status();
    const store = services.find(({ service }) => service === 'store');
    expect(store?.bytes).toBeLessThanOrEqual(131_072);
    const { coverage } = await stack.reply<{ coverage: CoverageSpan[] }>('range', 'docker/workload', '--from', '0');
    expect(coverage.map(({ source }) => source)).toEqual(['spill', 'window']);
    const verified = await stack.trySpillway('spillover', 'segments', 'verify');
    expect(verified, verified.stderr).toMatchObject({ code: 0 });
    const files = await stack.docker('exec', await stack.container('spillover'), 'ls', '/var/lib/spillway/spill/0');
    expect(files).toMatch(/^metrics-\d{13}-\d{16}-\d{16}\.jsonl\.gz$/m);
    await stack.requireCustody();
  });

  test.each(['collector', 'store', 'spillover', 'web-1-collector', 'nats'])(
    '%s killed: comes back by its restart policy',
    async (service) => {
      const restarts = Number(await stack.inspect(service, '{{.RestartCount}}'));
      const container = await stack.container(service);
      await stack.killProcess(service);
      await eventually(async () => expect(Number(await stack.inspect(service, '{{.RestartCount}}'))).toBe(restarts + 1), patient);
      const samples = await stack.requireCustody();
      expect(samples).toContainEqual(firstSample);
      expect(await stack.container(service)).toBe(container);
    },
  );

  test('a paused store catches up', async () => {
    const store = await stack.container('store');
    await eventually(() => stack.docker('pause', store), patient); // seen on a busy machine: "unable to freeze", and it was not
    const accepted = async (): Promise<number> => {
      const collector = (await stack.status('spillover')).services.find(({ where }) => where === 'docker');
      return collector?.counters['accepted_rows'] ?? 0;
    };
    const before = await eventually(accepted, patient);
    await eventually(async () => expect(await accepted()).toBeGreaterThan(before + 500), patient);
    await stack.docker('unpause', store);
    await stack.requireCustody();
  });

  test('store and spillover are replaced under load', async () => {
    for (const service of ['store', 'spillover'] as const) {
      const old = await stack.container(service);
      await stack.compose('up', '-d', '--no-deps', '--force-recreate', service);
      expect(await stack.container(service)).not.toBe(old);
      await stack.ready(service);
    }
    await stack.requireCustody();
  });

  test('docker kill and up again', async () => {
    await stack.docker('kill', await stack.container('nats'), await stack.container('store'));
    await stack.up();
    await stack.requireCustody();
  });

  test('compose down and up: the history is there', async () => {
    const before = await stack.requireCustody();
    await stack.compose('down');
    expect(await stack.containers()).toEqual([]);
    await stack.up();
    const after = new Set((await stack.requireCustody()).map((sample) => JSON.stringify(sample)));
    expect(before.filter((sample) => !after.has(JSON.stringify(sample)))).toEqual([]);
  });

  test('compose down -v and up: the history is gone', async () => {
    await stack.compose('down', '-v');
    const downMs = Date.now();
    await stack.up();
    await eventually(() => stack.newest('docker/workload'), patient);
    const samples = await stack.requireCustody();
    expect(Math.min(...samples.map(({ ts }) => ts))).toBeGreaterThan(downMs);
  });
});

async function userOf(service: string): Promise<string> {
  return (await stack.docker('exec', await stack.container(service), 'id', '-un')).trim();
}
