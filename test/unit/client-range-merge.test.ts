import { describe, expect, test } from 'vitest';
import { mergeCoverage, mergePoints, mergeSamples } from '#client/range-merge';
import { type CoverageSpan, emptyMetricSummaries, type MetricSummary, type Point } from '#shared/contract/queries';
import { sampleAt } from '../support/samples.ts';

const span = (source: CoverageSpan['source'], from_ms: number, to_ms: number): CoverageSpan => ({ source, from_ms, to_ms });

describe('coverage', () => {
  test('spans of one source that touch become one', () => {
    expect(mergeCoverage([span('window', 51, 80), span('window', 10, 50), span('window', 82, 90)], 0, 100)).toEqual([
      span('window', 10, 80),
      span('window', 82, 90),
    ]);
  });

  test('a span inside another does not shorten it', () => {
    expect(mergeCoverage([span('spill', 10, 90), span('spill', 20, 30)], 0, 100)).toEqual([span('spill', 10, 90)]);
  });

  test('sources stay apart, sorted by time, and are cut to the request', () => {
    expect(mergeCoverage([span('window', 50, 200), span('spill', -5, 50), span('gap', 200, 300)], 0, 100)).toEqual([
      span('spill', 0, 50),
      span('window', 50, 100),
    ]);
  });

  test('both ends are included: a span of one millisecond at an end stays', () => {
    expect(mergeCoverage([span('window', 100, 130), span('spill', -10, 0)], 0, 100)).toEqual([
      span('spill', 0, 0),
      span('window', 100, 100),
    ]);
  });
});

describe('samples of window and spill', () => {
  const floor = { log: 1, seq: 3 };

  test('are sorted by time, position, host and unit', () => {
    const late = sampleAt({ seq: 9, ts: 5 });
    const merged = mergeSamples(
      [late, sampleAt({ seq: 4, ts: 7, unit: 'b' }), sampleAt({ seq: 4, ts: 7, unit: 'a' })],
      [sampleAt({ seq: 2, ts: 6 })],
      floor,
    );
    expect(merged.map((sample) => [sample.ts, sample.seq, sample.unit])).toEqual([
      [5, 9, 'api'],
      [6, 2, 'api'],
      [7, 4, 'a'],
      [7, 4, 'b'],
    ]);
  });

  test('a row that the window delivered before its floor passed it comes once', () => {
    const moved = sampleAt({ seq: 2, ts: 6 });
    expect(mergeSamples([moved], [{ ...moved }, sampleAt({ seq: 1, ts: 5 })], floor)).toHaveLength(2);
  });

  test('another row with the same position, from an older log, stays', () => {
    expect(mergeSamples([sampleAt({ seq: 2, ts: 6 })], [sampleAt({ seq: 2, ts: 1 })], floor)).toHaveLength(2);
  });
});

describe('points of window and spill', () => {
  const point = (from_ms: number, cpu: MetricSummary, unit = 'api'): Point => ({
    host: 'h1',
    unit,
    from_ms,
    to_ms: from_ms + 9,
    metrics: { ...emptyMetricSummaries(), cpu_percent: cpu },
  });

  test('the same bucket of the same series becomes one', () => {
    const older = point(0, { min: 1, max: 4, avg: 2, last: 4, count: 3 });
    const newer = point(0, { min: 0, max: 3, avg: 6, last: 3, count: 1 });
    expect(mergePoints([older], [newer])).toEqual([point(0, { min: 0, max: 4, avg: 3, last: 3, count: 4 })]);
  });

  test('a side that knows nothing changes nothing', () => {
    const known = point(0, { min: 1, max: 4, avg: 2, last: 4, count: 3 });
    const unknown = point(0, { min: null, max: null, avg: null, last: null, count: 0 });
    expect(mergePoints([known], [unknown])).toEqual([known]);
    expect(mergePoints([unknown], [known])).toEqual([known]);
  });

  test('an extra metric is joined where either side knows it', () => {
    const fds = { min: 4, max: 8, avg: 6, last: 8, count: 2 };
    const cpu = { min: 1, max: 1, avg: 1, last: 1, count: 1 };
    const having = { ...point(0, cpu), metrics: { ...point(0, cpu).metrics, open_fds: fds } };
    for (const [older, newer] of [
      [having, point(0, cpu)],
      [point(0, cpu), having],
    ] as const) {
      expect(mergePoints([older], [newer])[0]?.metrics.open_fds).toEqual(fds);
    }
    expect(mergePoints([having], [having])[0]?.metrics.open_fds).toEqual({ ...fds, count: 4 });
    expect(mergePoints([point(0, cpu)], [point(0, cpu)])[0]?.metrics).not.toHaveProperty('open_fds');
  });

  test('others stay apart, sorted by name and time', () => {
    const cpu = { min: 1, max: 1, avg: 1, last: 1, count: 1 };
    expect(mergePoints([point(10, cpu), point(0, cpu, 'b')], [point(0, cpu, 'a')])).toEqual([
      point(0, cpu, 'a'),
      point(10, cpu),
      point(0, cpu, 'b'),
    ]);
  });
});
