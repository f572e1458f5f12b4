// A short round of `npm run fuzz`: the built store and spillover under messages that are none, with good ones in between.

import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runFuzz } from '../fuzz/round.ts';

test('bad messages are refused, counted and published, good rows are there once, memory stays where it was', async () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const report = await runFuzz({ root, natsServer: process.env['NATS_SERVER'] ?? 'nats-server', messages: 20_000, seed: 1 });
  expect(report.problems, `logs and data are in ${report.directory}`).toEqual([]);
  expect(report.isClean).toBe(true);
  // A round that tries nothing would be clean as well.
  expect(report.range.accepted).toBeGreaterThan(10_000);
  expect(report.files.accepted).toBeGreaterThan(1_000);
  expect([...report.store.counted.keys()].sort()).toEqual([
    ...['bad_name', 'bad_subject', 'bad_value', 'column_length', 'duplicate_unit', 'forbidden_key', 'host_mismatch', 'not_json'],
    ...['too_large', 'too_many_units', 'wrong_version'],
  ]);
  expect([...report.spillover.counted.keys()].sort()).toEqual(['bad_checksum', 'bad_event', 'too_large']);
}, 240_000);
