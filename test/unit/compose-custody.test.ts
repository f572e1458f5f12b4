// The judge of the compose tests convicts: each kind of damage, done to evidence that is clean.

import { describe, expect, test } from 'vitest';
import type { Custody } from '../../cli/custody.ts';
import type { ServiceStatus, Status } from '../../cli/status.ts';
import { custodyViolations, type Evidence, type StoredSample } from '../compose/custody.ts';

const TICKS = 10;
const UNITS = ['collector', 'workload'];

function sample(unit: string, tick: number, fields: Partial<StoredSample> = {}): StoredSample {
  const ts = 1_000 * tick;
  const own = { host: 'h1', unit, unit_hash: `hash of ${unit}`, timestamp: new Date(ts).toISOString(), ts, seq: tick };
  return { ...own, state: 'running', pid: 7, started: 1, cpu_percent: 1, ...fields } as StoredSample;
}

function collector(counters: Record<string, number>): ServiceStatus {
  const shared = { version: '0', rows: null, bytes: null, budget_bytes: null, lag: 0, health: { ready: true, problems: [] } };
  return { service: 'collector', where: 'h1', role: '2 units', counters, ...shared };
}

function clean(): Evidence & { samples: StoredSample[]; after: Status } {
  const samples = Array.from({ length: TICKS }, (_, i) => UNITS.map((unit) => sample(unit, i + 1))).flat();
  const custody: Custody = {
    ...{ shard: 0, log: 1, accepted_rows: samples.length, uncounted_rows: 0, transit_rows: 0, deleted_rows: 0 },
    ...{ window_rows: 6, segment_rows: samples.length - 6, removed_rows: 0, lost_rows: 0, doubled_rows: 0, older_log_rows: 0 },
    ...{ dropped_rows: 0, dropped_no_spill_rows: 0, dropped_spill_blocked_rows: 0, dropped_spillover_rows: 0 },
    ...{ holds: true, problem: null },
  };
  const before = { services: [collector({ sampled_rows: samples.length - 2 })], custody: [], collector_custody: [], problems: [] };
  return { samples, before, after: { services: [], custody: [custody], collector_custody: [], problems: [] } };
}

const without = (evidence: Evidence, isGone: (one: StoredSample) => boolean): Evidence => ({
  ...evidence,
  samples: evidence.samples.filter((one) => !isGone(one)),
});

describe('custody', () => {
  test('of a stack in order has no violations', () => {
    expect(custodyViolations(clean())).toEqual([]);
  });

  test('a batch is gone', () => {
    expect(custodyViolations(without(clean(), ({ seq }) => seq === 4))).toContain('lost: positions 4 to 4');
    expect(custodyViolations(without(clean(), ({ seq }) => seq < 3))).toContain('lost: positions 1 to 2');
  });

  test('a row of a batch is gone', () => {
    const torn = without(clean(), ({ seq, unit }) => seq === 4 && unit === 'workload');
    expect(custodyViolations(torn)).toContain('lost: of position 4 of h1 only collector of collector workload');
  });

  test('a row is there twice, at its position or at another', () => {
    for (const seq of [4, 11]) {
      const evidence = clean();
      evidence.samples.push(sample('workload', 4, { seq }));
      expect(custodyViolations(evidence)).toContain(`doubled: h1/workload at 4000, at positions 4 and ${seq}`);
    }
  });

  test('the end was never taken by the log', () => {
    const evidence = without(clean(), ({ seq }) => seq > TICKS - 2);
    expect(custodyViolations(evidence)).toContain('lost: h1 sampled 18 rows or more since its start, 16 are read');
  });

  test('what an earlier collector of the host sampled does not stand for this one', () => {
    const evidence = clean();
    const samples = evidence.samples.map((one) => (one.seq < 5 ? { ...one, pid: 6 } : one));
    expect(custodyViolations({ ...evidence, samples })).toContain('lost: h1 sampled 18 rows or more since its start, 12 are read');
  });

  test('something was dropped', () => {
    const evidence = clean();
    const before = { ...evidence.before, services: [collector({ sampled_rows: 1, dropped_spool_full_rows: 2 })] };
    expect(custodyViolations({ ...evidence, before })).toEqual(['dropped: dropped_spool_full_rows of h1 is 2']);
  });

  test.each([
    ['window_rows', 7],
    ['segment_rows', 0],
    ['transit_rows', 1],
    ['transit_rows', null],
    ['dropped_rows', 1],
  ])('the services say otherwise: %s is %s', (name, value) => {
    const { after, ...rest } = clean();
    const [custody] = after.custody;
    const evidence = { ...rest, after: { ...after, custody: [{ ...custody, [name]: value }] } } as Evidence;
    expect(custodyViolations(evidence)).toHaveLength(1);
  });
});
