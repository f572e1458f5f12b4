// The built program is whole: it runs where no package lies beside it.

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { PROGRAM, start } from '../support/program.ts';

const BUILT = dirname(PROGRAM);
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'spillway-bundle-'));
  for (const name of ['main.js', 'parts']) cpSync(join(BUILT, name), join(directory, 'dist', 'cli', name), { recursive: true });
  cpSync(join(BUILT, '..', '..', 'package.json'), join(directory, 'package.json'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function specifiersOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const loads = /^(?:import|export)\s(?:[^"';]*\sfrom\s)?"([^"]+)"|\bimport\("([^"]+)"\)|\b__require\("([^"]+)"\)/gm;
  return [...text.matchAll(loads)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
}

test('it loads its own parts and what comes with Node, nothing else', () => {
  const parts = readdirSync(join(BUILT, 'parts')).filter((name) => name.endsWith('.js'));
  const loaded = [PROGRAM, ...parts.map((name) => join(BUILT, 'parts', name))].flatMap(specifiersOf);
  expect(loaded).toEqual(expect.arrayContaining(['./store.js', 'node:net', 'tls']));
  expect(loaded.filter((specifier) => !specifier.startsWith('.') && !isBuiltin(specifier))).toEqual([]);
});

test.each(['collector', 'store', 'spillover'])('%s runs by itself', async (service) => {
  const program = join(directory, 'dist', 'cli', 'main.js');
  const running = start([service], { cwd: directory, program, env: { SPILLWAY_NATS_SERVERS: 'nats://127.0.0.1:1' } });
  try {
    // By then everything is loaded that it needs.
    await eventually(() => expect(running.stdout()).toContain('NATS is not reachable, trying again'));
  } finally {
    running.signal('SIGTERM');
  }
  expect(await running.finished).toMatchObject({ code: 0, stderr: '' });
});
