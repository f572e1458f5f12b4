// The configuration: `spillway.yaml`, every key overridable by an environment variable, checked once and frozen.
// All problems are reported in one message, each with its key; a service with a problem does not start.

import { existsSync, readFileSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import { dirname, isAbsolute, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { EXTRA_METRICS } from '#shared/contract/metrics';
import { fieldsOf, NAME_FIELDS, OTHER_UNIT } from '#shared/contract/name-template';
import { nameProblem } from '#shared/contract/series';
import { PREFIX_PATTERN } from '#shared/contract/subjects';

export const CONFIG_FILE = 'spillway.yaml';
const SEGMENT_BYTES_DEFAULT = 16 * 1024 * 1024;
const SEGMENT_BYTES_MIN = 4096;
const SPILLOVER_BYTES_DEFAULT = 1_073_741_824;
/** Less would hold too few batches to be worth a directory. */
const SPOOL_BYTES_MIN = 65_536;
const SPOOL_BYTES_DEFAULT = 256 * 1024 * 1024;

const bytes = (min: number) => z.int().min(min);
const nullableText = z.string().min(1).nullable();
const unitName = z.string().superRefine((name, context) => {
  const problem = nameProblem(name);
  if (problem !== null) context.addIssue({ code: 'custom', message: `the name ${problem}` });
});

const regularExpression = z.string().superRefine((source, context) => {
  try {
    new RegExp(source);
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'not a regular expression' });
  }
});

const RULES = ['pid', 'pidfile', 'match', 'systemd', 'cgroup', 'container', 'systemg', 'parent', 'all', 'self'] as const;
/** Rules that may give many units, and what a name template can say of each, besides what it can of any process. */
const NAME_FIELDS_OF: Partial<Record<(typeof RULES)[number], readonly string[]>> = {
  match: ['match.'],
  systemd: [],
  cgroup: [],
  container: [],
  systemg: ['service', 'project'],
  parent: ['parent'],
  all: [],
};

const nameTemplate = z
  .string()
  .min(1)
  .superRefine((template, context) => {
    const unknown = fieldsOf(template).filter((field) => !NAME_FIELDS.some((known) => known === field) && !/^match\.\w+$/.test(field));
    if (unknown.length > 0) {
      context.addIssue({
        code: 'custom',
        message: `{${unknown[0]}} is unknown; there are ${NAME_FIELDS.map((field) => `{${field}}`).join(', ')}, {match.1}`,
      });
    }
  });

const EXTRAS_TO_NAME = EXTRA_METRICS.flatMap((metric) => (metric.key === 'metrics_extra' ? [metric.name] : []));

const target = z
  .strictObject({
    /** A process by its id. */
    pid: z.int().min(1).optional(),
    /** A file that holds a process id; relative to the configuration file. */
    pidfile: z.string().min(1).optional(),
    /** A regular expression on the command line. */
    match: regularExpression.optional(),
    /** With `match`: only processes of this user, by name or number. */
    user: z.union([z.string().min(1), z.int().min(0)]).optional(),
    /** A systemd unit, or a glob of them. */
    systemd: z.string().min(1).optional(),
    /** A control group, or a glob of them, with what is below. */
    cgroup: z.string().startsWith('/', 'must be a path that begins with /').optional(),
    /** A container by name or id. */
    container: z.string().min(1).optional(),
    /** All services of a state directory of systemg, relative to the configuration file; true: where systemg keeps it. */
    systemg: z.union([z.literal(true), z.string().min(1)]).optional(),
    /** The children of another unit of this configuration. */
    parent: z.string().min(1).optional(),
    /** Every process of the host. */
    all: z.literal(true).optional(),
    /** With `all`: how many are units of their own; the rest is one. */
    top: z.int().min(1).optional(),
    /** With `all`: what they are ranked by. */
    by: z.enum(['cpu', 'memory']).optional(),
    /** The collector itself. */
    self: z.literal(true).optional(),
    /** Names of the units, where a rule is to give many: `worker-{match.1}`. */
    name: nameTemplate.optional(),
    /** False: the process alone, without its descendants. */
    tree: z.boolean().default(true),
  })
  .superRefine((value, context) => {
    const given = RULES.filter((rule) => value[rule] !== undefined);
    if (given.length !== 1) {
      context.addIssue({
        code: 'custom',
        message: `needs exactly one of ${RULES.join(', ')}; has ${given.length === 0 ? 'none' : given.join(', ')}`,
      });
    }
    if (value.user !== undefined && value.match === undefined) {
      context.addIssue({ code: 'custom', message: 'only goes with match', path: ['user'] });
    }
    for (const key of ['top', 'by'] as const) {
      if (value[key] !== undefined && value.all === undefined)
        context.addIssue({ code: 'custom', message: 'only goes with all', path: [key] });
    }
    const [rule] = given;
    if (value.name === undefined || rule === undefined) return;
    const own = NAME_FIELDS_OF[rule];
    if (own === undefined) {
      context.addIssue({ code: 'custom', message: `only goes with a rule that can give many units, not with ${rule}`, path: ['name'] });
      return;
    }
    const special = ['match.', 'service', 'project', 'parent'].filter((field) => !own.includes(field));
    const misplaced = fieldsOf(value.name).find((field) => special.some((one) => field.startsWith(one)));
    if (misplaced !== undefined) context.addIssue({ code: 'custom', message: `{${misplaced}} is not known with ${rule}`, path: ['name'] });
    const groups = value.match === undefined ? [] : groupsOf(value.match);
    const unknown = fieldsOf(value.name).find((field) => field.startsWith('match.') && !groups.includes(field.slice('match.'.length)));
    if (unknown !== undefined && misplaced === undefined) {
      context.addIssue({ code: 'custom', message: `{${unknown}} is no group of the expression`, path: ['name'] });
    }
  });

/** Numbers and names of the groups of a regular expression; 0 is all that matched. None where it is not one. */
function groupsOf(source: string): string[] {
  try {
    // Something that always matches has all the groups, without a value.
    const found = new RegExp(`${source}|`).exec('');
    return [...(found?.keys() ?? [])].map(String).concat(Object.keys(found?.groups ?? {}));
  } catch {
    return [];
  }
}

const schema = z.strictObject({
  host: unitName.default(() => hostname()),
  shard: z.int().min(0).default(0),
  shards: z.int().min(1).max(1024).default(1),
  nats: z
    .strictObject({
      servers: z.array(z.string().min(1)).min(1).default(['nats://127.0.0.1:4222']),
      /** Path of a credentials file. */
      creds: nullableText.default(null),
      user: nullableText.default(null),
      password: nullableText.default(null),
      tls: z
        .strictObject({ ca_file: z.string().optional(), cert_file: z.string().optional(), key_file: z.string().optional() })
        .nullable()
        .default(null),
      prefix: z.string().regex(PREFIX_PATTERN, 'only letters, digits, _ and -, 32 at most').default('spillway'),
      replicas: z.int().min(1).max(5).default(1),
      samples_max_bytes: bytes(1).default(1_073_741_824),
      evicted_max_bytes: bytes(1).default(1_073_741_824),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      retention_minutes: z.number().min(1).max(10_000_000).default(720),
      sample_interval_secs: z.number().min(0.1).max(60).default(1),
      max_memory_bytes: bytes(131_072).default(10_485_760),
      spillover_path: nullableText.default(null),
      spillover_max_bytes: bytes(0).default(SPILLOVER_BYTES_DEFAULT),
      spillover_segment_bytes: bytes(SEGMENT_BYTES_MIN).optional(),
    })
    .prefault({}),
  units: z.record(unitName, target).nullable().default({}),
  /** How many units are published at most. */
  units_max: z.int().min(1).default(10_000),
  /** Whether the collector is a unit by itself, `spillway-collector`, where it is none of `units`. */
  own_unit: z.boolean().default(true),
  /** How processes are read: `procfs` needs Linux, `pidusage` works elsewhere. */
  sampler: z.enum(['auto', 'procfs', 'pidusage']).default('auto'),
  /** The procfs to read: `/proc`, or where a container has its host's. */
  procfs: z.string().min(1).default('/proc'),
  /** Docker's data, where the names of its containers are. */
  docker_root: z.string().min(1).default('/var/lib/docker'),
  /** Metrics to read beside those that every sample has. */
  metrics_extra: z.array(z.enum(EXTRAS_TO_NAME)).default([]),
  /** Whether CPU and memory are also read between samples, for `cpu_percent_max` and `rss_bytes_max`. */
  peak: z.boolean().default(false),
  /** Whether every sample is also published on its live subject. */
  live_subjects: z.boolean().default(true),
  /** What the store does when evicted rows have nowhere to go: wait, or drop and count them. */
  on_spill_blocked: z.enum(['pause', 'drop']).default('pause'),
  /** Memory for batches that NATS has not acknowledged yet. */
  outbox_max_bytes: bytes(65_536).default(8 * 1024 * 1024),
  /** Directory for batches that the memory is not to hold: what does not fit there, and what waits for NATS. Null: no spool. */
  spool_path: nullableText.default(null),
  /** Disk for them; 0: no spool. */
  spool_max_bytes: bytes(0).default(SPOOL_BYTES_DEFAULT),
  log_level: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
});

type Parsed = z.infer<typeof schema>;
export type TargetConfig = z.infer<typeof target>;
export type NatsConfig = Parsed['nats'];
export interface MetricsConfig extends Omit<Parsed['metrics'], 'spillover_segment_bytes'> {
  spillover_segment_bytes: number;
}

export interface Config extends Omit<Parsed, 'metrics' | 'units'> {
  /** Absolute paths throughout. `spillover_path` is null when there is no spill, `spool_path` when there is no spool. */
  metrics: MetricsConfig;
  units: Record<string, TargetConfig>;
  /** Absolute path of the file that was read; null when there was none. */
  file: string | null;
  /** Dotted keys that were given, with where: the file's name or the variable's. */
  given: ReadonlyMap<string, string>;
}

/** The configuration is wrong. `problems` has one sentence for each, led by its key. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(
      `the configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((problem) => `  ${problem}`).join('\n')}`,
    );
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

type Kind = 'text' | 'number' | 'boolean' | 'list';

/** Every key that a variable can set. The variable is `SPILLWAY_` and the key without its group; keys of `nats` also take `SPILLWAY_NATS_`. */
const VARIABLES: readonly { readonly path: readonly string[]; readonly kind: Kind }[] = [
  ...(['host', 'sampler', 'procfs', 'docker_root', 'on_spill_blocked', 'log_level', 'spool_path'] as const).map((key) => ({
    path: [key],
    kind: 'text' as const,
  })),
  ...(['shard', 'shards', 'units_max', 'outbox_max_bytes', 'spool_max_bytes'] as const).map((key) => ({
    path: [key],
    kind: 'number' as const,
  })),
  ...(['own_unit', 'live_subjects', 'peak'] as const).map((key) => ({ path: [key], kind: 'boolean' as const })),
  { path: ['metrics_extra'], kind: 'list' },
  { path: ['nats', 'servers'], kind: 'list' },
  ...(['creds', 'user', 'password', 'prefix'] as const).map((key) => ({ path: ['nats', key], kind: 'text' as const })),
  ...(['replicas', 'samples_max_bytes', 'evicted_max_bytes'] as const).map((key) => ({ path: ['nats', key], kind: 'number' as const })),
  ...(['ca_file', 'cert_file', 'key_file'] as const).map((key) => ({ path: ['nats', 'tls', key], kind: 'text' as const })),
  ...(['retention_minutes', 'sample_interval_secs', 'max_memory_bytes', 'spillover_max_bytes', 'spillover_segment_bytes'] as const).map(
    (key) => ({ path: ['metrics', key], kind: 'number' as const }),
  ),
  { path: ['metrics', 'spillover_path'], kind: 'text' },
];

/** Variables that set a key, in order of precedence. */
export function variablesOf(path: readonly string[]): string[] {
  const key = path.at(-1)?.toUpperCase() ?? '';
  if (path[0] !== 'nats') return [`SPILLWAY_${key}`];
  return key === 'SERVERS' ? ['SPILLWAY_NATS_SERVERS'] : [`SPILLWAY_NATS_${key}`, `SPILLWAY_${key}`];
}

export interface ConfigSource {
  /** File to read; it must exist. Default: `SPILLWAY_CONFIG`, else `spillway.yaml` in `cwd` if there is one. */
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
}

/** Reads, merges and checks the configuration. @throws {ConfigError} with every problem. */
export function loadConfig(source: ConfigSource): Config {
  const problems: string[] = [];
  const given = new Map<string, string>();
  const file = configFile(source);
  const raw = file === null ? {} : readYaml(file, problems);
  noteKeys(raw, [], file ?? '', given);
  // A path in the file is relative to the file, one in a variable to the working directory.
  const pathBase = new Map<string, string>();
  for (const { path, kind } of VARIABLES) {
    for (const variable of variablesOf(path)) {
      const text = source.env[variable];
      if (text === undefined) continue;
      const value = parseVariable(text, kind);
      if (value === undefined) problems.push(`${variable}: ${JSON.stringify(text)} is not a ${kind}`);
      else {
        setPath(raw, path, value);
        given.set(path.join('.'), variable);
        pathBase.set(path.join('.'), source.cwd);
      }
      break;
    }
  }
  problems.push(...relationProblems(raw));
  const parsed = schema.safeParse(raw);
  if (!parsed.success) problems.push(...parsed.error.issues.flatMap(sentencesOf(given)));
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems);
  const config = finish(parsed.data, file, given, (key) => pathBase.get(key) ?? (file === null ? source.cwd : dirname(file)));
  return deepFreeze(config);
}

/** What has to fit together. Works on values that are wrong by themselves as well, so that all is said at once. */
function relationProblems(raw: Record<string, unknown>): string[] {
  const problems: string[] = [];
  const group = (name: string): Record<string, unknown> => {
    const value = raw[name];
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  };
  const metrics = group('metrics');
  const nats = group('nats');
  const number = (value: unknown, fallback: number): number => (typeof value === 'number' ? value : fallback);
  const budget = number(metrics['spillover_max_bytes'], SPILLOVER_BYTES_DEFAULT);
  const segment = number(metrics['spillover_segment_bytes'], 0);
  const isSpilling = typeof metrics['spillover_path'] === 'string' && budget > 0;
  if (isSpilling && budget < 2 * SEGMENT_BYTES_MIN) {
    problems.push(
      `metrics.spillover_max_bytes: ${budget} is less than two segments of ${SEGMENT_BYTES_MIN}; raise it, or set 0 for no spill`,
    );
  } else if (isSpilling && segment > budget / 2) {
    problems.push(
      `metrics.spillover_segment_bytes: ${segment} is more than half of metrics.spillover_max_bytes (${budget}); a segment is the unit of deletion, so set it to ${Math.floor(budget / 2)} or less`,
    );
  }
  const spool = number(raw['spool_max_bytes'], SPOOL_BYTES_DEFAULT);
  if (typeof raw['spool_path'] === 'string' && spool > 0 && spool < SPOOL_BYTES_MIN) {
    problems.push(`spool_max_bytes: ${spool} is less than ${SPOOL_BYTES_MIN}; raise it, or set 0 for no spool`);
  }
  problems.push(...unitProblems(group('units')));
  const shard = number(raw['shard'], 0);
  const shards = number(raw['shards'], 1);
  if (shards >= 1 && shard >= shards) problems.push(`shard: ${shard} is not below shards (${shards})`);
  const isGiven = (value: unknown): boolean => value !== undefined && value !== null;
  if (isGiven(nats['user']) !== isGiven(nats['password'])) problems.push('nats.user and nats.password go together: one of them is missing');
  if (isGiven(nats['creds']) && isGiven(nats['user'])) problems.push('nats.creds and nats.user exclude each other');
  return problems;
}

/** Units that refer to others. */
function unitProblems(units: Record<string, unknown>): string[] {
  const problems: string[] = [];
  const targets = new Map(Object.entries(units).map(([name, unit]) => [name, (unit ?? {}) as Record<string, unknown>]));
  for (const [name, { parent }] of targets) {
    if (typeof parent !== 'string') continue;
    const named = targets.get(parent);
    if (named === undefined) problems.push(`units.${name}.parent: there is no unit ${parent} in this configuration`);
    else if (named['parent'] !== undefined) problems.push(`units.${name}.parent: ${parent} has a parent itself; name one that has not`);
  }
  const everything = [...targets].filter(([, unit]) => unit['all'] !== undefined).map(([name]) => name);
  if (everything.length > 1)
    problems.push(`units.${everything[1]}: ${everything[0]} has all processes already; there can be one such unit`);
  if (targets.has(OTHER_UNIT)) problems.push(`units.${OTHER_UNIT}: the name is kept for what is left of all`);
  return problems;
}

function finish(parsed: Parsed, file: string | null, given: ReadonlyMap<string, string>, baseOf: (key: string) => string): Config {
  const { metrics, nats } = parsed;
  const segmentBytes = metrics.spillover_segment_bytes ?? Math.min(SEGMENT_BYTES_DEFAULT, Math.floor(metrics.spillover_max_bytes / 2));
  const spills = metrics.spillover_path !== null && metrics.spillover_max_bytes > 0;
  const spools = parsed.spool_path !== null && parsed.spool_max_bytes > 0;
  const absolute = (path: string, key: string): string => (isAbsolute(path) ? path : resolve(baseOf(key), path));
  const units: Record<string, TargetConfig> = {};
  for (const [name, unit] of Object.entries(parsed.units ?? {})) {
    units[name] = withAbsolutePaths(unit, (path) => absolute(path, `units.${name}`));
  }
  return {
    ...parsed,
    nats: { ...nats, creds: nats.creds === null ? null : absolute(nats.creds, 'nats.creds') },
    metrics: {
      ...metrics,
      spillover_segment_bytes: segmentBytes,
      spillover_path: spills && metrics.spillover_path !== null ? absolute(metrics.spillover_path, 'metrics.spillover_path') : null,
    },
    procfs: absolute(parsed.procfs, 'procfs'),
    docker_root: absolute(parsed.docker_root, 'docker_root'),
    spool_path: spools && parsed.spool_path !== null ? absolute(parsed.spool_path, 'spool_path') : null,
    units,
    file,
    given,
  };
}

function withAbsolutePaths(unit: TargetConfig, absolute: (path: string) => string): TargetConfig {
  if (unit.pidfile !== undefined) return { ...unit, pidfile: absolute(unit.pidfile) };
  if (typeof unit.systemg !== 'string') return unit;
  return { ...unit, systemg: absolute(unit.systemg.replace(/^~(?=\/)/, homedir())) };
}

function configFile(source: ConfigSource): string | null {
  const named = source.file ?? source.env['SPILLWAY_CONFIG'];
  if (named !== undefined && named !== '') {
    const path = resolve(source.cwd, named);
    if (!existsSync(path)) throw new ConfigError([`${path}: there is no such file`]);
    return path;
  }
  const usual = resolve(source.cwd, CONFIG_FILE);
  return existsSync(usual) ? usual : null;
}

function readYaml(file: string, problems: string[]): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError([`${file}: ${error instanceof Error ? error.message : 'cannot be read'}`]);
  }
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0) throw new ConfigError(document.errors.map((error) => `${file}: ${error.message.split('\n')[0]}`));
  const raw: unknown = document.toJS();
  if (raw === null || raw === undefined) return {};
  if (typeof raw !== 'object' || Array.isArray(raw)) {
    problems.push(`${file}: must be a mapping of keys to values`);
    return {};
  }
  return raw as Record<string, unknown>;
}

function parseVariable(text: string, kind: Kind): unknown {
  const trimmed = text.trim();
  if (kind === 'text') return trimmed === '' ? null : trimmed;
  if (kind === 'list')
    return trimmed
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  if (kind === 'boolean') return /^(true|1|yes|on)$/i.test(trimmed) ? true : /^(false|0|no|off)$/i.test(trimmed) ? false : undefined;
  const number = Number(trimmed);
  return trimmed === '' || Number.isNaN(number) ? undefined : number;
}

function setPath(raw: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let group = raw;
  for (const key of path.slice(0, -1)) {
    const inner = group[key];
    if (typeof inner !== 'object' || inner === null) group[key] = {};
    group = group[key] as Record<string, unknown>;
  }
  group[path.at(-1) as string] = value;
}

function noteKeys(value: unknown, path: string[], origin: string, given: Map<string, string>): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    if (path.length > 0) given.set(path.join('.'), origin);
    return;
  }
  for (const [key, member] of Object.entries(value)) noteKeys(member, [...path, key], origin, given);
}

/** One sentence for each key that is wrong; unknown keys are named one by one. */
function sentencesOf(given: ReadonlyMap<string, string>): (issue: z.core.$ZodIssue) => string[] {
  return (issue) => {
    const key = issue.path.join('.');
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((name) => `${key === '' ? name : `${key}.${name}`}: there is no such key`);
    const origin = given.get(key);
    const from = origin?.startsWith('SPILLWAY_') ? ` (from ${origin})` : '';
    return [`${key === '' ? 'spillway.yaml' : key}: ${issue.message}${from}`];
  };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value) && !(value instanceof Map)) {
    Object.freeze(value);
    for (const member of Object.values(value)) deepFreeze(member);
  }
  return value;
}
