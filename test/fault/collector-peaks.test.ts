import { NEVER, type Subscription } from 'rxjs';
import { afterEach, expect, test } from 'vitest';
import { Outbox } from '../../services/collector/core/outbox.ts';
import { Publication } from '../../services/collector/core/publication.ts';
import { TickSchedule } from '../../services/collector/core/tick-schedule.ts';
import { UnitWatch } from '../../services/collector/core/unit-watch.ts';
import { collect } from '../../services/collector/pipeline.ts';
import type { Sampler } from '../../services/collector/sampler.ts';
import { emptyTally } from '../../services/collector/tally.ts';
import { presentReading, processReading } from '../support/collector-readings.ts';
import { eventually } from '../support/eventually.ts';
import { silent } from '../support/link.ts';

let collecting: Subscription | null = null;
afterEach(() => collecting?.unsubscribe());

test('a reading between two ticks that fails costs no tick', async () => {
  let failures = 0;
  const sampler: Sampler = {
    sample: () => [presentReading(performance.now(), [processReading({ pid: 50 })])],
    samplePeak: () => {
      failures++;
      throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
    },
    units: [{ unit: 'u', target: { unit: 'u', rule: { kind: 'pid', pid: 50 }, tree: true } }],
    retarget: () => undefined,
    problems: [],
    processes: 1,
    close: () => undefined,
  };
  const extras = ['cpu_percent_max', 'rss_bytes_max'] as const;
  const schedule = new TickSchedule(200);
  const tally = emptyTally();
  collecting = collect({
    config: { host: 'h1', shards: 1, live_subjects: true },
    boot: 'b',
    extras,
    sampler,
    schedule,
    watch: new UnitWatch(extras),
    publication: new Publication({ unitsMax: 10, top: null }),
    reload: null,
    outbox: new Outbox({ bytesMax: 1_000_000, inFlightMax: 1 }),
    spool: null,
    tally,
    links: NEVER,
    logger: silent,
    stopping: new AbortController().signal,
    flushMsMax: 0,
  }).subscribe();
  await eventually(() => expect(failures).toBeGreaterThanOrEqual(3));
  await eventually(() => expect(schedule.tick).toBeGreaterThanOrEqual(3));
  expect(tally).toMatchObject({ tickFailures: 0, tickProblem: null, sampledRows: schedule.tick });
});
