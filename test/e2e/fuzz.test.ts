// A short round of `npm run fuzz`: the built store and spillover under messages that are none, with good ones in between.

import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { isClean } from '../chaos/checker.ts';
import { runFuzz } from '../fuzz/round.ts';

test('bad messages are refused, counted and published, and good rows are there once', async () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const report = await runFuzz({ root, natsServer: process.env['NATS_SERVER'] ?? 'nats-server', messages: 20_000, seed: 1 });
  // In so short a time a heap is still growing into its size; whether memory is flat is for a long round to say.
  const problems = report.problems.filter((problem) => !problem.startsWith('the memory of'));
  expect(problems, `logs and data are in ${report.directory}`).toEqual([]);
  expect([isClean(report.range), isClean(report.files)]).toEqual([true, true]);
  for (const name of ['store', 'spillover']) expect(report.memory.get(name)?.lateMax, name).toBeLessThan(400 * 1024 * 1024);
  // A round that tries nothing would be clean as well.
  expect(report.range.accepted).toBeGreaterThan(10_000);
  expect(report.files.accepted).toBeGreaterThan(1_000);
  expect([...report.store.counted.keys()].sort()).toEqual([
    ...['bad_name', 'bad_subject', 'bad_value', 'column_length', 'duplicate_unit', 'forbidden_key', 'host_mismatch', 'not_json'],
    ...['too_large', 'too_many_units', 'wrong_version'],
  ]);
  expect([...report.spillover.counted.keys()].sort()).toEqual(['bad_checksum', 'bad_event', 'too_large']);
}, 240_000);
