import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Config, ConfigError, loadConfig } from '#shared/runtime/config';
import { extraMetrics } from '../../services/collector/core/extra-metrics.ts';

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

function directoryWith(yaml: string, name = 'spillway.yaml'): string {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-config-'));
  directories.push(directory);
  writeFileSync(join(directory, name), yaml);
  return directory;
}

const fromYaml = (yaml: string, env: Record<string, string> = {}): Config => loadConfig({ env, cwd: directoryWith(yaml) });
const fromEnv = (env: Record<string, string>): Config => loadConfig({ env, cwd: '/nonexistent' });

function problemsOf(load: () => Config): readonly string[] {
  try {
    load();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).problems;
  }
  return [];
}

describe('configuration', () => {
  test('without a file and variables: the defaults of the documentation', () => {
    expect(fromEnv({})).toMatchObject({
      host: hostname(),
      shard: 0,
      shards: 1,
      nats: {
        servers: ['nats://127.0.0.1:4222'],
        creds: null,
        user: null,
        password: null,
        tls: null,
        prefix: 'spillway',
        replicas: 1,
        samples_max_bytes: 1_073_741_824,
        evicted_max_bytes: 1_073_741_824,
      },
      metrics: {
        retention_minutes: 720,
        sample_interval_secs: 1,
        max_memory_bytes: 10_485_760,
        spillover_path: null,
        spillover_max_bytes: 1_073_741_824,
        spillover_segment_bytes: 16_777_216,
      },
      units: {},
      sampler: 'auto',
      procfs: '/proc',
      metrics_extra: [],
      peak: false,
      live_subjects: true,
      own_unit: true,
      docker_root: '/var/lib/docker',
      spool_path: null,
      spool_max_bytes: 268_435_456,
      on_spill_blocked: 'pause',
      log_level: 'info',
      file: null,
    });
  });

  const variables: [string, string, (config: Config) => unknown, unknown][] = [
    ['SPILLWAY_NATS_SERVERS', 'nats://a:1, nats://b:2', (config) => config.nats.servers, ['nats://a:1', 'nats://b:2']],
    ['SPILLWAY_RETENTION_MINUTES', '5', (config) => config.metrics.retention_minutes, 5],
    ['SPILLWAY_MAX_MEMORY_BYTES', '131072', (config) => config.metrics.max_memory_bytes, 131_072],
    ['SPILLWAY_SPILLOVER_PATH', '/var/spill', (config) => config.metrics.spillover_path, '/var/spill'],
    ['SPILLWAY_SPILLOVER_MAX_BYTES', '1000000', (config) => config.metrics.spillover_max_bytes, 1_000_000],
    ['SPILLWAY_SPILLOVER_SEGMENT_BYTES', '4096', (config) => config.metrics.spillover_segment_bytes, 4096],
    ['SPILLWAY_SAMPLE_INTERVAL_SECS', '0.5', (config) => config.metrics.sample_interval_secs, 0.5],
    ['SPILLWAY_SAMPLES_MAX_BYTES', '1000', (config) => config.nats.samples_max_bytes, 1000],
    ['SPILLWAY_EVICTED_MAX_BYTES', '1001', (config) => config.nats.evicted_max_bytes, 1001],
    ['SPILLWAY_SHARDS', '4', (config) => config.shards, 4],
    ['SPILLWAY_HOST', 'web-1', (config) => config.host, 'web-1'],
    ['SPILLWAY_PREFIX', 'other', (config) => config.nats.prefix, 'other'],
    ['SPILLWAY_NATS_PREFIX', 'other', (config) => config.nats.prefix, 'other'],
    ['SPILLWAY_REPLICAS', '3', (config) => config.nats.replicas, 3],
    ['SPILLWAY_LIVE_SUBJECTS', 'no', (config) => config.live_subjects, false],
    ['SPILLWAY_OWN_UNIT', 'no', (config) => config.own_unit, false],
    ['SPILLWAY_DOCKER_ROOT', '/srv/docker', (config) => config.docker_root, '/srv/docker'],
    ['SPILLWAY_ON_SPILL_BLOCKED', 'drop', (config) => config.on_spill_blocked, 'drop'],
    ['SPILLWAY_SAMPLER', 'pidusage', (config) => config.sampler, 'pidusage'],
    ['SPILLWAY_PROCFS', '/host/proc', (config) => config.procfs, '/host/proc'],
    ['SPILLWAY_METRICS_EXTRA', 'pss_bytes, open_fds', (config) => config.metrics_extra, ['pss_bytes', 'open_fds']],
    ['SPILLWAY_PEAK', 'yes', (config) => config.peak, true],
    ['SPILLWAY_LOG_LEVEL', 'debug', (config) => config.log_level, 'debug'],
    ['SPILLWAY_OUTBOX_MAX_BYTES', '65536', (config) => config.outbox_max_bytes, 65_536],
    ['SPILLWAY_SPOOL_PATH', '/var/spool', (config) => config.spool_path, '/var/spool'],
    ['SPILLWAY_SPOOL_MAX_BYTES', '65536', (config) => config.spool_max_bytes, 65_536],
    ['SPILLWAY_CREDS', '/run/creds', (config) => config.nats.creds, '/run/creds'],
  ];
  test.each(variables)('%s sets its key, and says so', (variable, text, read, expected) => {
    const config = fromEnv({ [variable]: text });
    expect(read(config)).toEqual(expected);
    expect([...config.given.values()]).toEqual([variable]);
  });

  test('SPILLWAY_SHARD sets its key', () => {
    expect(fromEnv({ SPILLWAY_SHARD: '2', SPILLWAY_SHARDS: '3' }).shard).toBe(2);
  });

  test('a variable wins over the file, and each value knows where it is from', () => {
    const config = fromYaml('host: web-1\nmetrics: { retention_minutes: 9, max_memory_bytes: 200000 }\n', {
      SPILLWAY_RETENTION_MINUTES: '5',
    });
    expect(config.metrics).toMatchObject({ retention_minutes: 5, max_memory_bytes: 200_000 });
    expect(config.given.get('metrics.retention_minutes')).toBe('SPILLWAY_RETENTION_MINUTES');
    expect(config.given.get('metrics.max_memory_bytes')).toBe(config.file);
    expect(config.given.has('metrics.sample_interval_secs')).toBe(false);
  });

  test('a path in the file is relative to the file, one in a variable to the working directory', () => {
    const directory = directoryWith('metrics: { spillover_path: ./spill }\nunits: { api: { pidfile: run/api.pid } }\n', 'other.yaml');
    const config = loadConfig({ file: join(directory, 'other.yaml'), env: {}, cwd: '/somewhere' });
    expect(config.metrics.spillover_path).toBe(join(directory, 'spill'));
    expect(config.units['api']?.pidfile).toBe(join(directory, 'run/api.pid'));
    const named = loadConfig({
      env: { SPILLWAY_CONFIG: join(directory, 'other.yaml'), SPILLWAY_SPILLOVER_PATH: 'spill' },
      cwd: '/somewhere',
    });
    expect(named.metrics.spillover_path).toBe('/somewhere/spill');
  });

  test('extra metrics are named, and those that belong to peak are not among them', () => {
    expect(problemsOf(() => fromYaml('metrics_extra: [open_fds, cpu_percent_max]\n'))).toEqual([
      expect.stringMatching(/^metrics_extra\.1: .*"cpu_user_percent"\|.*"major_faults"$/),
    ]);
    const extras = (yaml: string) => extraMetrics(fromYaml(yaml));
    expect(extras('{}')).toEqual([]);
    expect(extras('metrics_extra: [major_faults, open_fds, open_fds]\npeak: true\n')).toEqual([
      'cpu_percent_max',
      'rss_bytes_max',
      'open_fds',
      'major_faults',
    ]);
  });

  test('a spool: its path is relative to the file, 0 bytes mean none, and a budget too small for it is refused', () => {
    const directory = directoryWith('spool_path: ./spool\n', 'other.yaml');
    const load = (env: Record<string, string>) => loadConfig({ file: join(directory, 'other.yaml'), env, cwd: '/somewhere' });
    expect(load({}).spool_path).toBe(join(directory, 'spool'));
    expect(load({ SPILLWAY_SPOOL_MAX_BYTES: '0' }).spool_path).toBeNull();
    expect(problemsOf(() => load({ SPILLWAY_SPOOL_MAX_BYTES: '65535' }))).toEqual([
      'spool_max_bytes: 65535 is less than 65536; raise it, or set 0 for no spool',
    ]);
  });

  test('a budget of 0 means no spill', () => {
    expect(fromEnv({ SPILLWAY_SPILLOVER_PATH: '/spill', SPILLWAY_SPILLOVER_MAX_BYTES: '0' }).metrics.spillover_path).toBeNull();
  });

  test('a small budget brings a small default for its segments', () => {
    const { metrics } = fromEnv({ SPILLWAY_SPILLOVER_PATH: '/spill', SPILLWAY_SPILLOVER_MAX_BYTES: '100000' });
    expect(metrics.spillover_segment_bytes).toBe(50_000);
  });

  test('segments of exactly half of the budget are taken, one byte more is refused', () => {
    const env = { SPILLWAY_SPILLOVER_PATH: '/spill', SPILLWAY_SPILLOVER_MAX_BYTES: '100000' };
    expect(fromEnv({ ...env, SPILLWAY_SPILLOVER_SEGMENT_BYTES: '50000' }).metrics.spillover_segment_bytes).toBe(50_000);
    const problems = problemsOf(() => fromEnv({ ...env, SPILLWAY_SPILLOVER_SEGMENT_BYTES: '50001' }));
    expect(problems).toEqual([expect.stringMatching(/^metrics\.spillover_segment_bytes: 50001 is more than half/)]);
  });

  const limits: [string, string, string][] = [
    ['SPILLWAY_RETENTION_MINUTES', '1', '0.5'],
    ['SPILLWAY_SAMPLE_INTERVAL_SECS', '0.1', '0.09'],
    ['SPILLWAY_SAMPLE_INTERVAL_SECS', '60', '60.1'],
    ['SPILLWAY_MAX_MEMORY_BYTES', '131072', '131071'],
    ['SPILLWAY_SPILLOVER_SEGMENT_BYTES', '4096', '4095'],
    ['SPILLWAY_SHARDS', '1', '0'],
  ];
  test.each(limits)('%s: %s is taken, %s is refused by name', (variable, good, bad) => {
    fromEnv({ [variable]: good });
    const [problem, ...others] = problemsOf(() => fromEnv({ [variable]: bad }));
    expect(others).toEqual([]);
    expect(problem).toContain(variable.replace('SPILLWAY_', '').toLowerCase());
    expect(problem).toContain(`from ${variable}`);
  });

  test('every problem is named in one message, each with its key', () => {
    const yaml = `
hots: web-1
metrics: { retention_minutes: 0, max_memory_bytes: many }
nats: { prefix: "a.b" }
units:
  api: { pid: 1, pidfile: /x }
  db: { match: "(" }
  idle: {}
  web: { pid: 1, user: app }
`;
    const problems = problemsOf(() => fromYaml(yaml, { SPILLWAY_SHARDS: 'two' }));
    const keys = problems.map((problem) => problem.slice(0, problem.indexOf(':')));
    expect(keys.sort()).toEqual(
      [
        'SPILLWAY_SHARDS',
        'hots',
        'metrics.max_memory_bytes',
        'metrics.retention_minutes',
        'nats.prefix',
        'units.api',
        'units.db.match',
        'units.idle',
        'units.web.user',
      ].sort(),
    );
  });

  test('units of every kind; paths are absolute, of systemg as of pid files', () => {
    const yaml = `
units:
  a: { systemd: nginx, name: "{cgroup}" }
  b: { cgroup: /sys/fs/cgroup/x }
  c: { container: web }
  d: { systemg: state }
  e: { systemg: true }
  f: { systemg: ~/state, name: "{project}-{service}" }
  g: { parent: b, name: "{parent}/{comm}" }
  h: { all: true, top: 5, by: memory }
  i: { match: 'worker (.)', name: "w{match.1}-{user}-{pid}" }
`;
    const directory = directoryWith(yaml);
    const { units, units_max } = loadConfig({ env: {}, cwd: directory });
    expect(units_max).toBe(10_000);
    expect(units).toMatchObject({
      a: { systemd: 'nginx', name: '{cgroup}' },
      d: { systemg: join(directory, 'state') },
      e: { systemg: true },
      f: { systemg: join(homedir(), 'state') },
      h: { all: true, top: 5, by: 'memory' },
    });
    expect(fromEnv({ SPILLWAY_UNITS_MAX: '3' }).units_max).toBe(3);
  });

  test('the examples of docs/units.md are valid', () => {
    const page = readFileSync(new URL('../../docs/units.md', import.meta.url), 'utf8');
    const examples = [...page.matchAll(/^```yaml\n(.*?)^```/gms)].map((found) => found[1] as string);
    expect(examples.map((yaml) => Object.keys(fromYaml(yaml).units).length)).toEqual([11, 2]);
  });

  test.each([
    ['a: { pid: 1, name: "{comm}" }', 'units.a.name: only goes with a rule that can give many units, not with pid'],
    ['a: { match: x, name: "{com}" }', 'units.a.name: {com} is unknown; there are {comm}, '],
    ['a: { match: x, name: "{service}" }', 'units.a.name: {service} is not known with match'],
    ['a: { cgroup: /x, name: "{match.1}" }', 'units.a.name: {match.1} is not known with cgroup'],
    ['a: { systemg: true, name: "{parent}" }', 'units.a.name: {parent} is not known with systemg'],
    [
      'a: { match: "(?<n>x)(y)?", name: "{match.0}{match.1}{match.2}{match.n}{match.3}" }',
      'units.a.name: {match.3} is no group of the expression',
    ],
    ['a: { match: "x|()", name: "{match.n}" }', 'units.a.name: {match.n} is no group of the expression'],
    ['a: { cgroup: x }', 'units.a.cgroup: must be a path that begins with /'],
    ['a: { match: x, top: 3 }', 'units.a.top: only goes with all'],
    ['a: { pid: 1, by: cpu }', 'units.a.by: only goes with all'],
    ['a: { parent: b }', 'units.a.parent: there is no unit b in this configuration'],
    ['{ a: { parent: a } }', 'units.a.parent: a has a parent itself; name one that has not'],
    ['{ a: { all: true }, b: { all: true } }', 'units.b: a has all processes already; there can be one such unit'],
    ['__other__: { pid: 1 }', 'units.__other__: the name is kept for what is left of all'],
  ])('units that cannot be: %s', (units, problem) => {
    const yaml = units.startsWith('{') ? `units: ${units}` : `units:\n  ${units}`;
    expect(problemsOf(() => fromYaml(yaml))).toEqual([expect.stringContaining(problem)]);
  });

  test('relations are checked as well', () => {
    expect(problemsOf(() => fromEnv({ SPILLWAY_SHARD: '1' }))).toEqual([expect.stringMatching(/^shard: 1 is not below shards/)]);
    expect(problemsOf(() => fromEnv({ SPILLWAY_USER: 'a' }))).toEqual([expect.stringContaining('nats.password')]);
    expect(problemsOf(() => fromEnv({ SPILLWAY_USER: 'a', SPILLWAY_PASSWORD: 'b', SPILLWAY_CREDS: 'c' }))).toEqual([
      expect.stringContaining('nats.creds and nats.user'),
    ]);
  });

  test('a file that is not there, is not YAML or is not a mapping is refused', () => {
    expect(problemsOf(() => loadConfig({ file: 'no.yaml', env: {}, cwd: '/nonexistent' }))).toEqual([
      '/nonexistent/no.yaml: there is no such file',
    ]);
    expect(problemsOf(() => fromYaml('a: [1'))[0]).toContain('spillway.yaml');
    expect(problemsOf(() => fromYaml('- a'))[0]).toContain('must be a mapping');
  });

  test('an empty file is no file', () => {
    expect(fromYaml('').metrics.retention_minutes).toBe(720);
  });

  test('nobody can change it', () => {
    const config = fromYaml('units: { api: { pid: 1 } }');
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.nats.servers)).toBe(true);
    expect(Object.isFrozen(config.units['api'])).toBe(true);
  });
});
