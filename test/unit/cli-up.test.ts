import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { shardOf } from '#shared/contract/series';
import { loadConfig } from '#shared/runtime/config';
import { settingsOf } from '../../cli/check.ts';
import { effectiveConfig, environmentOfServices, loadUpConfig, ownUnits } from '../../cli/up/effective-config.ts';
import { natsConfig } from '../../cli/up/own-nats.ts';
import { lastErrorIn } from '../../cli/up/service-log.ts';
import { announceUp, claimUpDirectory, releaseUpDirectory, runningUp, type UpDirectory, upDirectory } from '../../cli/up/up-directory.ts';

let cwd: string;
let directory: UpDirectory;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'spillway-up-'));
  directory = upDirectory(cwd);
});
afterEach(() => rmSync(cwd, { recursive: true, force: true }));

const load = (env: Record<string, string>) => loadUpConfig({ env, cwd }, directory);

describe('the configuration of up', () => {
  test('spills into its directory, unless told where or not to', () => {
    expect(load({}).metrics.spillover_path).toBe(directory.spill);
    expect(load({ SPILLWAY_SPILLOVER_PATH: '/spill' }).metrics.spillover_path).toBe('/spill');
    expect(load({ SPILLWAY_SPILLOVER_MAX_BYTES: '0' }).metrics.spillover_path).toBeNull();
    writeFileSync(join(cwd, 'spillway.yaml'), 'metrics: { spillover_path: null }');
    expect(load({}).metrics.spillover_path).toBeNull();
  });

  test('spools into its directory, unless told where or not to', () => {
    expect(load({}).spool_path).toBe(directory.spool);
    expect(load({ SPILLWAY_SPOOL_PATH: '/spool' }).spool_path).toBe('/spool');
    expect(load({ SPILLWAY_SPOOL_MAX_BYTES: '0' }).spool_path).toBeNull();
    writeFileSync(join(cwd, 'spillway.yaml'), 'spool_path: null');
    expect(load({}).spool_path).toBeNull();
  });

  test('keeps the shard that this host belongs to, unless told which', () => {
    expect(load({ SPILLWAY_HOST: 'web-1', SPILLWAY_SHARDS: '7' }).shard).toBe(shardOf('web-1', 7));
    expect(load({ SPILLWAY_HOST: 'web-1', SPILLWAY_SHARDS: '7', SPILLWAY_SHARD: '0' }).shard).toBe(0);
  });

  const given: Record<string, string>[] = [
    {},
    { SPILLWAY_SPILLOVER_MAX_BYTES: '0', SPILLWAY_SPOOL_MAX_BYTES: '0' },
    { SPILLWAY_HOST: 'ü: "x"', SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_USER: 'a', SPILLWAY_PASSWORD: "'b" },
  ];
  test.each(given)('is the same when read back from the file it is written to: %j', (env) => {
    const config = load(env);
    const units = ownUnits(directory, ['nats', 'store']);
    const servers = ['nats://127.0.0.1:5222'];
    writeFileSync(join(cwd, 'effective.yaml'), effectiveConfig(config, { servers, units }));
    const read = loadConfig({ file: 'effective.yaml', env: {}, cwd });
    expect({ ...read, file: null, given: null }).toEqual({ ...config, nats: { ...config.nats, servers }, units, file: null, given: null });
  });

  test('reaches the services by its file alone', () => {
    expect(environmentOfServices({ PATH: '/bin', SPILLWAY_HOST: 'x', SPILLWAY_CONFIG: 'y' }, directory)).toEqual({
      PATH: '/bin',
      SPILLWAY_CONFIG: directory.configFile,
    });
  });

  test('gives the NATS server room for all streams', () => {
    const config = load({ SPILLWAY_SAMPLES_MAX_BYTES: '1000000', SPILLWAY_EVICTED_MAX_BYTES: '2000000', SPILLWAY_SHARDS: '3' });
    const text = natsConfig(directory, config, 5222);
    expect(Number(/max_file_store: (\d+)/.exec(text)?.[1])).toBeGreaterThan(9_000_000);
    expect(text).toContain('host: 127.0.0.1\nport: 5222');
    expect(text).toContain(`store_dir: ${JSON.stringify(directory.natsData)}`);
  });
});

describe('the directory of up', () => {
  test('belongs to one at a time, and is found while that one lives', () => {
    expect(runningUp(directory)).toBeNull();
    expect(claimUpDirectory(directory)).toBeNull();
    expect(claimUpDirectory(directory)).toMatchObject({ pid: process.pid });
    announceUp(directory, ['nats://127.0.0.1:5222']);
    expect(runningUp(directory)).toMatchObject({ pid: process.pid, nats: ['nats://127.0.0.1:5222'] });
    releaseUpDirectory(directory);
    expect(runningUp(directory)).toBeNull();
  });

  const stale: [string, string][] = [
    ['another process has the id by now', JSON.stringify({ pid: process.pid, start_ticks: 1, nats: [] })],
    ['nobody has the id', JSON.stringify({ pid: 2 ** 22 + 1, start_ticks: 1, nats: [] })],
    ['the file is torn', '{"pid":'],
  ];
  test.each(stale)('is free again when %s', (_, content) => {
    claimUpDirectory(directory);
    writeFileSync(directory.upFile, content);
    expect(runningUp(directory)).toBeNull();
    expect(claimUpDirectory(directory)).toBeNull();
  });
});

describe('the last words of a service', () => {
  const logOf = (...lines: string[]): string => {
    const path = join(cwd, 'x.log');
    writeFileSync(path, lines.join('\n'));
    return path;
  };
  test('are its newest error, or the last line that is not of its log', () => {
    const error = '{"level":"error","msg":"no room"}';
    expect(lastErrorIn(logOf('{"level":"error","msg":"old"}', error, '{"level":"info","msg":"stopped"}', ''))).toBe('no room');
    expect(lastErrorIn(logOf(error, 'Segmentation fault', ''))).toBe('Segmentation fault');
    expect(lastErrorIn(logOf('{"level":"info","msg":"ready"}'))).toBeNull();
    expect(lastErrorIn(join(cwd, 'none.log'))).toBeNull();
  });
});

describe('check', () => {
  test('shows every key with its origin, and no secret', () => {
    writeFileSync(join(cwd, 'spillway.yaml'), 'host: web-1\nunits: { api: { pid: 7 } }\n');
    const config = loadConfig({ env: { SPILLWAY_USER: 'a', SPILLWAY_PASSWORD: 'secret', SPILLWAY_RETENTION_MINUTES: '5' }, cwd });
    const settings = settingsOf(config);
    expect(settings).toContainEqual({ key: 'host', value: 'web-1', from: join(cwd, 'spillway.yaml') });
    expect(settings).toContainEqual({ key: 'metrics.retention_minutes', value: 5, from: 'SPILLWAY_RETENTION_MINUTES' });
    expect(settings).toContainEqual({ key: 'metrics.sample_interval_secs', value: 1, from: 'default' });
    expect(settings).toContainEqual({ key: 'units.api.pid', value: 7, from: join(cwd, 'spillway.yaml') });
    expect(settings).toContainEqual({ key: 'nats.password', value: '***', from: 'SPILLWAY_PASSWORD' });
    expect(JSON.stringify(settings)).not.toContain('secret');
  });
});
