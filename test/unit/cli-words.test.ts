import { describe, expect, test } from 'vitest';
import type { UnitInfo } from '#shared/contract/queries';
import { unitHash } from '#shared/contract/series';
import { CommandFailure, UsageFailure } from '../../cli/failure.ts';
import { extraHeadings, extrasOf, formatBytes, formatMetric, formatTable, left, METRIC_HEADINGS, right } from '../../cli/table.ts';
import { formatTime, parseTime } from '../../cli/time.ts';
import { matchSeries, splitName } from '../../cli/unit-name.ts';

const NOW_MS = Date.parse('2026-11-20T22:40:00.123Z');

describe('times', () => {
  const good: [string, number][] = [
    ['now', NOW_MS],
    ['0', 0],
    ['1763678400123', 1_763_678_400_123],
    ['-10m', NOW_MS - 600_000],
    ['-1.5h', NOW_MS - 5_400_000],
    ['+2s', NOW_MS + 2_000],
    ['-250ms', NOW_MS - 250],
    ['-1d', NOW_MS - 86_400_000],
    ['2026-11-20T22:40:00Z', NOW_MS - 123],
    ['2026-11-20T23:40:00+01:00', NOW_MS - 123],
    ['2026-11-20', Date.parse('2026-11-20')],
    [' now ', NOW_MS],
  ];
  test.each(good)('%s', (text, expected) => expect(parseTime(text, NOW_MS)).toBe(expected));

  test.each(['', 'yesterday', '10m', '-10', '-10x', '-m', '1.5', '2026-13-40', 'May', '8640000000000001', '-99999999999999w'])(
    '%j is refused',
    (text) => {
      expect(() => parseTime(text, NOW_MS)).toThrow(UsageFailure);
    },
  );

  test('are shown to the millisecond, in local time', () => {
    expect(parseTime(formatTime(NOW_MS).replace(' ', 'T'), 0)).toBe(NOW_MS);
    expect(formatTime(null)).toBe('-');
  });
});

describe('tables', () => {
  test('columns are as wide as their widest cell, numbers to the right', () => {
    expect(
      formatTable(
        [left('UNIT'), right('ROWS')],
        [
          ['a', '10'],
          ['longer', '7'],
        ],
      ),
    ).toBe('UNIT    ROWS\na         10\nlonger     7\n');
  });

  test('a name cannot drive the terminal', () => {
    expect(formatTable([left('UNIT')], [['a\x1b[2Jb\r\n\u202ec']])).toBe('UNIT\na?[2Jb???c\n');
  });

  const sizes: [number, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [104_857_600, '100.0 MiB'],
    [1_048_575, '1.0 MiB'],
    [Number.MAX_SAFE_INTEGER, '8.0 PiB'],
  ];
  test.each(sizes)('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test('a metric is shown in its unit, and null as a dash', () => {
    expect(METRIC_HEADINGS.map((heading) => heading.title)).toEqual(['CPU %', 'RSS', 'IO READ', 'IO WRITE', 'NET RX', 'NET TX', 'THREADS']);
    expect(formatMetric('cpu_percent', 1.5)).toBe('1.50');
    expect(formatMetric('rss_bytes', 2048)).toBe('2.0 KiB');
    expect(formatMetric('threads', 12)).toBe('12');
    expect(formatMetric('threads', 12.25)).toBe('12.3');
    expect(formatMetric('cpu_percent', null)).toBe('-');
    expect(formatMetric('pss_bytes', 2048)).toBe('2.0 KiB');
  });

  test('an extra metric has a column where something knows it, in the order of the table', () => {
    const extras = extrasOf([{ open_fds: 3 }, {}, { cpu_percent_max: 1, pss_bytes: undefined }]);
    expect(extras).toEqual(['cpu_percent_max', 'open_fds']);
    expect(extraHeadings(extras).map((heading) => heading.title)).toEqual(['CPU MAX %', 'OPEN FDS']);
  });
});

describe('names of units', () => {
  const unit = (host: string, name: string): UnitInfo => ({
    host,
    unit: name,
    unit_hash: unitHash(host, name),
    state: 'running',
    pid: 1,
    started: 1,
    first_ts: 1,
    last_ts: 1,
    rows: 1,
  });
  const known = [
    unit('web-1', 'api'),
    unit('web-2', 'api'),
    unit('web-1', 'db'),
    unit('web-2', 'postgres@14/main'),
    unit('a', 'b/c'),
    unit('a/b', 'c'),
  ];

  test('a unit alone, where only one host has it', () => {
    expect(matchSeries(known, 'db')).toEqual({ host: 'web-1', unit: 'db' });
    expect(matchSeries(known, 'postgres@14/main')).toEqual({ host: 'web-2', unit: 'postgres@14/main' });
  });

  test('host and unit', () => {
    expect(matchSeries(known, 'web-2/api')).toEqual({ host: 'web-2', unit: 'api' });
  });

  test('several are refused and named', () => {
    expect(() => matchSeries(known, 'api')).toThrow(/ambiguous: web-1\/api, web-2\/api; name the host as well/);
    expect(() => matchSeries(known, 'a/b/c')).toThrow(CommandFailure);
  });

  test('none is null', () => {
    expect(matchSeries(known, 'nginx')).toBeNull();
    expect(matchSeries(known, 'web-3/api')).toBeNull();
  });

  test('a full name is split at its first slash', () => {
    expect(splitName('web-1/postgres@14/main')).toEqual({ host: 'web-1', unit: 'postgres@14/main' });
    for (const text of ['api', '/api', 'web-1/']) expect(splitName(text)).toBeNull();
  });
});
