import { describe, expect, test } from 'vitest';
import { UnitWatch } from '../../services/collector/core/unit-watch.ts';
import { presentReading, processReading } from '../support/collector-readings.ts';

const reading = (atMs: number, cpuOwnMs: number, rssBytes = 1_000, pid = 10) =>
  presentReading(atMs, [processReading({ pid, startMs: 5_000, cpuOwnMs, rssBytes })]);

describe('peaks of a unit', () => {
  const open = () => {
    const watch = new UnitWatch(['cpu_percent_max', 'rss_bytes_max']);
    return {
      peak: (...args: Parameters<typeof reading>) => watch.observePeaks(['u'], [reading(...args)]),
      sample: (...args: Parameters<typeof reading>) => watch.observe(['u'], [reading(...args)]).samples[0]?.metrics,
      watch,
    };
  };

  test('are the most of the readings since the last sample, and begin anew with each sample', () => {
    const { peak, sample } = open();
    expect(sample(10_000, 0, 7_000)).toMatchObject({ cpu_percent: null, rss_bytes_max: 7_000 });
    peak(10_100, 10, 3_000);
    peak(10_200, 90, 9_000);
    peak(10_300, 100, 2_000);
    expect(sample(11_000, 100, 2_000)).toMatchObject({ cpu_percent: 10, cpu_percent_max: 80, rss_bytes: 2_000, rss_bytes_max: 9_000 });
    peak(11_100, 120);
    expect(sample(12_000, 120)).toMatchObject({ cpu_percent: 2, cpu_percent_max: 20, rss_bytes_max: 1_000 });
    expect(sample(13_000, 150)).toMatchObject({ cpu_percent: 3, cpu_percent_max: 3 });
  });

  test('CPU is not known in the first sample of an incarnation, and has nothing of the one before', () => {
    const { peak, sample, watch } = open();
    expect(sample(10_000, 0)).not.toHaveProperty('cpu_percent_max');
    peak(10_500, 500, 9_000);
    peak(10_600, 5, 2_000, 11);
    peak(10_700, 10, 3_000, 11);
    const first = sample(11_000, 10, 1_000, 11);
    expect(first).toMatchObject({ cpu_percent: null, rss_bytes_max: 3_000 });
    expect(first).not.toHaveProperty('cpu_percent_max');
    expect(sample(12_000, 20, 1_000, 11)).toMatchObject({ cpu_percent_max: 1 });
    const missing = watch.observe(['u'], [{ state: 'missing', reason: 'gone' }]).samples[0]?.metrics;
    expect(missing).not.toHaveProperty('rss_bytes_max');
  });

  test('a reading that follows another too closely makes no peak of a single step of the clock', () => {
    const { peak, sample } = open();
    sample(10_000, 0);
    peak(10_949, 0);
    peak(10_951, 10); // 10 ms in 2 ms would be 500 %
    expect(sample(11_000, 10)).toMatchObject({ cpu_percent: 1, cpu_percent_max: 19.61 });
  });

  test('a sample never has a smaller maximum than value', () => {
    const { peak, sample } = open();
    sample(10_000, 0);
    peak(10_990, 500, 1_000);
    expect(sample(11_000, 700, 2_000)).toMatchObject({ cpu_percent: 70, cpu_percent_max: 70, rss_bytes_max: 2_000 });
  });
});
