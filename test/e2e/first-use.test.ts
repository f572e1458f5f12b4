// What goes wrong at first use, as the person who starts Spillway meets it: a sentence that says what, where and what to do.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { type Running, spillway, start } from '../support/program.ts';

let cwd: string;
let server: TestServer | null;
const started: Running[] = [];

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'spillway-first-'));
  server = null;
});
afterEach(async () => {
  for (const service of started.splice(0)) {
    service.signal('SIGKILL');
    await service.finished;
  }
  await server?.stop();
  rmSync(cwd, { recursive: true, force: true });
});

interface Line {
  level: string;
  msg: string;
  reason?: string;
  servers?: string[];
  waited_ms?: number;
}

function startService(name: string, env: Record<string, string>): Running {
  const service = start([name], { cwd, env });
  started.push(service);
  return service;
}

/** Complete lines of its log, at warn and above. */
function warnings(service: Running): Line[] {
  const lines = service.stdout().split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Line).filter(({ level }) => level === 'warn' || level === 'error');
}

describe('NATS is not reachable', () => {
  test('a line every ten seconds with what is tried, and no stack trace', async () => {
    const store = startService('store', { SPILLWAY_NATS_SERVERS: 'nats://127.0.0.1:1' });
    const lines = await eventually(
      () => {
        const said = warnings(store);
        expect(said.length).toBeGreaterThan(1);
        return said;
      },
      { withinMs: 25_000 },
    );
    for (const line of lines) {
      expect(line).toMatchObject({
        msg: 'NATS is not reachable, trying again',
        servers: ['nats://127.0.0.1:1'],
        reason: 'connection refused; is the server running?',
      });
    }
    expect((lines[1]?.waited_ms ?? 0) - (lines[0]?.waited_ms ?? 0)).toBeGreaterThan(9_900);
    expect(store.stdout() + store.stderr()).not.toContain('    at ');
  }, 40_000);

  test('a name that nobody has', async () => {
    const options = { cwd, env: { SPILLWAY_NATS_SERVERS: 'nats://nats.invalid:4222' } };
    const { code, stderr } = await spillway(['units'], options);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^spillway: NATS at nats:\/\/nats\.invalid:4222: there is no host of this name; check nats\.servers\. /);
  });
});

test('NATS refuses the credentials', async () => {
  server = await startNatsServer({ args: ['--user', 'me', '--pass', 'right'] });
  const env = { SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_NATS_USER: 'me', SPILLWAY_NATS_PASSWORD: 'wrong' };
  const store = startService('store', env);
  const reason = 'the credentials were refused; check nats.user, nats.password or nats.creds';
  await eventually(() => expect(warnings(store)).toEqual([expect.objectContaining({ reason })]));
  const { code, stderr } = await spillway(['units'], { cwd, env });
  expect(code).toBe(1);
  expect(stderr).toContain(`${server.url}: ${reason}. `);
});

test.each(['collector', 'store', 'spillover'])('a NATS without JetStream: %s says so and waits', async (name) => {
  server = await startNatsServer({ jetStream: false });
  const env = { SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_SPILLOVER_PATH: join(cwd, 'spill') };
  const service = startService(name, env);
  const reason = 'nobody answers; is JetStream enabled on this server (nats-server -js)?';
  await eventually(() => expect(warnings(service)).toContainEqual(expect.objectContaining({ reason })));
});

test('the spillover cannot have its directory: it names it and what to do, exit code 2', async () => {
  server = await startNatsServer();
  writeFileSync(join(cwd, 'file'), '');
  const spill = join(cwd, 'file', 'spill');
  const { code, stdout } = await spillway(['spillover'], {
    cwd,
    env: { SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_SPILLOVER_PATH: spill },
  });
  expect(code).toBe(2);
  expect(stdout).toContain(`segments in ${join(spill, '0')}: ENOTDIR`);
  expect(stdout).toContain('choose a path where a directory can be made');
});
