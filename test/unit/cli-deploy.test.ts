// What the container files name exists: commands, variables, services, files.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '#shared/runtime/config';
import { SERVICE_NODE_FLAGS } from '#shared/runtime/node-flags';
import { createProgram } from '../../cli/program.ts';
import { SERVICE_NAMES } from '../../cli/serve.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface ComposeService {
  image: string;
  command?: string[];
  environment?: Record<string, string>;
  volumes?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  restart: string;
  mem_limit: string;
  logging: { options: Record<string, string> };
}

/** `${NAME:-default}` as it is when nothing is set. */
const withDefaults = (text: string): string => text.replace(/\$\{[A-Z_]+:-([^}]*)\}/g, '$1');

interface ComposeFile {
  services: Record<string, ComposeService>;
  volumes: Record<string, null>;
}
const parseCompose = (path: string): ComposeFile => parse(withDefaults(read(path)), { merge: true });
const compose = parseCompose('docker-compose.yml');
const moreHosts = parseCompose('docker-compose.multi-host.yml');
const services = [compose, moreHosts].flatMap((file) => Object.entries(file.services));
const commands = createProgram(() => undefined).commands.map((command) => command.name());

function variablesOf(service: ComposeService): Record<string, string> {
  return Object.fromEntries(Object.entries(service.environment ?? {}).map(([key, value]) => [key, String(value)]));
}

describe('docker-compose.yml', () => {
  test('runs every service under its own command', () => {
    for (const name of SERVICE_NAMES) expect(compose.services[name]?.command).toEqual([name]);
    expect(commands).toEqual(expect.arrayContaining([...SERVICE_NAMES]));
  });

  test.each(SERVICE_NAMES)('%s gets variables that exist, and asks for its own health', (name) => {
    const service = compose.services[name] as ComposeService;
    const { SPILLWAY_CONFIG: file, ...env } = variablesOf(service);
    const config = loadConfig({ env, cwd: '/nonexistent' });
    expect([...config.given.values()].sort()).toEqual(Object.keys(env).sort());
    expect(file === undefined || service.volumes?.some((volume) => volume.includes(`:${file}:`))).toBe(true);
    expect(service.healthcheck?.test).toEqual(['CMD', 'spillway', 'health', name]);
    expect(service.depends_on).toEqual({ nats: { condition: 'service_healthy' } });
  });

  test('all services agree on what they share', () => {
    const shared = SERVICE_NAMES.map((name) => {
      const { SPILLWAY_CONFIG: _, SPILLWAY_SPOOL_PATH: __, ...env } = compose.services[name]?.environment ?? {};
      return env;
    });
    expect(shared).toEqual(shared.map(() => shared[0]));
  });

  test.each(services)('%s is bounded and comes back', (_, service) => {
    expect(service.restart).toBe('unless-stopped');
    expect(service.mem_limit).toMatch(/^\d+m$/);
    expect(service.logging.options).toMatchObject({ 'max-size': '10m', 'max-file': '3' });
  });

  test('files and volumes that it mounts are there', () => {
    for (const volume of services.flatMap(([, service]) => service.volumes ?? [])) {
      const [source = ''] = volume.split(':');
      const named = { ...compose.volumes, ...moreHosts.volumes };
      expect(source.startsWith('./') ? existsSync(join(ROOT, source)) : source in named, volume).toBe(true);
    }
  });

  test('the configuration of its collector is valid', () => {
    const config = loadConfig({ file: join(ROOT, 'deploy/compose/spillway.yaml'), env: {}, cwd: ROOT });
    expect(Object.keys(config.units)).toEqual(expect.arrayContaining(['nats', ...SERVICE_NAMES, 'workload']));
    const entry = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(read('Dockerfile'))?.[1] ?? '[]') as string[];
    for (const name of ['store', 'spillover']) {
      const { match = '' } = config.units[name] as { match?: string };
      const lines = SERVICE_NAMES.map((service) => [...entry, ...(compose.services[service]?.command ?? [])].join(' '));
      expect(
        lines.filter((line) => new RegExp(match).test(line)),
        name,
      ).toEqual([[...entry, name].join(' ')]);
      expect(`node /usr/local/bin/spillway health ${name}`, 'who asks for its health is not it').not.toMatch(new RegExp(match));
    }
  });

  test('NATS syncs before it acknowledges, except a 2.9, which cannot', () => {
    const settings = (path: string): string[] => read(path).match(/^ *\w+( \{|: .*)$/gm) ?? [];
    const usual = settings('deploy/nats/nats.conf');
    expect(usual).toContain('  sync_interval: always');
    expect(settings('deploy/nats/nats-2.9.conf')).toEqual(usual.filter((line) => !line.includes('sync_interval')));
  });
});

describe('docker-compose.multi-host.yml', () => {
  const collectors = Object.entries(moreHosts.services).filter(([name]) => name.endsWith('-collector'));

  test('adds three hosts to the others', () => {
    expect(collectors).toHaveLength(3);
    expect(Object.keys(moreHosts.services).filter((name) => name in compose.services)).toEqual([]);
  });

  test.each(collectors)('%s has the processes and the network of its host only, and the bus of the others', (name, service) => {
    const host = name.replace(/-collector$/, '');
    expect(service).toMatchObject({ image: compose.services['collector']?.image, pid: `service:${host}`, network_mode: `service:${host}` });
    const { SPILLWAY_CONFIG: _, ...env } = variablesOf(service);
    const config = loadConfig({ env, cwd: '/nonexistent' });
    expect(config.host).toBe(host);
    expect(config.nats.servers).toEqual([compose.services['collector']?.environment?.['SPILLWAY_NATS_SERVERS']]);
    expect([...config.given.values()].sort()).toEqual(Object.keys(env).sort());
  });

  test('the configuration of its collectors is valid', () => {
    const config = loadConfig({ file: join(ROOT, 'deploy/compose/host.yaml'), env: {}, cwd: ROOT });
    expect(Object.keys(config.units)).toEqual(['collector', 'workload']);
  });
});

describe('the image', () => {
  test('starts Node with the flags of a service', () => {
    const entry = /^ENTRYPOINT (.*)$/m.exec(read('Dockerfile'))?.[1] ?? '';
    expect(JSON.parse(entry)).toEqual(['node', ...SERVICE_NODE_FLAGS, '/app/dist/cli/main.js']);
  });

  test('is built from files that are there and not ignored', () => {
    const ignored = read('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'));
    const copied = [...read('Dockerfile').matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap((match) => (match[1] ?? '').split(' '));
    expect(copied).toContain('package.json');
    for (const path of copied) {
      expect(existsSync(join(ROOT, path)), path).toBe(true);
      expect(ignored, path).toContain(`!${path}`);
    }
  });
});
