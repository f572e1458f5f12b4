import { mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { FileWatch } from '#shared/runtime/file-watch';

const directory = mkdtempSync(join(tmpdir(), 'spillway-watch-'));
afterAll(() => rmSync(directory, { recursive: true }));
const path = (name: string): string => join(directory, name);
const looks = (watch: FileWatch, count: number): boolean[] => Array.from({ length: count }, () => watch.hasChanged());

test('a change is told once, when the file has stayed the same for a look', () => {
  writeFileSync(path('a'), '1');
  const watch = new FileWatch(path('a'));
  expect(looks(watch, 2)).toEqual([false, false]);
  writeFileSync(path('a'), '');
  expect(watch.hasChanged(), 'it may be being written').toBe(false);
  writeFileSync(path('a'), '22');
  expect(looks(watch, 3)).toEqual([false, true, false]);
  utimesSync(path('a'), 1, 1);
  expect(looks(watch, 3), 'of the same length').toEqual([false, true, false]);
});

test('a file that is replaced has changed, one that is gone has not, and one that comes has', () => {
  const watch = new FileWatch(path('b'));
  writeFileSync(path('b'), '1');
  expect(looks(watch, 3)).toEqual([false, true, false]);
  rmSync(path('b'));
  expect(looks(watch, 3)).toEqual([false, false, false]);
  writeFileSync(path('b.new'), '1');
  renameSync(path('b.new'), path('b'));
  expect(looks(watch, 3)).toEqual([false, true, false]);
});

test('a link that leads to another file has changed', () => {
  for (const name of ['v1', 'v2']) writeFileSync(path(name), '1');
  symlinkSync(path('v1'), path('link'));
  const watch = new FileWatch(path('link'));
  symlinkSync(path('v2'), path('link.new'));
  renameSync(path('link.new'), path('link'));
  expect(looks(watch, 3)).toEqual([false, true, false]);
});

test('a directory that may not be looked into is no failure', () => {
  expect(looks(new FileWatch(join(path('a'), 'below a file')), 2)).toEqual([false, false]);
});
