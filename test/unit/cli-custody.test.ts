import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Described } from '#client/client';
import type { CollectorInfo, SpilloverCustody, SpilloverInfo, StoreCustody, StoreInfo } from '#shared/contract/queries';
import { type Custody, collectorCustodyLine, collectorCustodyOf, custodyLine, custodyOf } from '../../cli/custody.ts';

const LOG = 1_763_678_400_000;
const health = { ready: true, problems: [] };

function store(custody: Partial<StoreCustody>, parts: Partial<StoreInfo> = {}): Described<StoreInfo> {
  const complete: StoreCustody = {
    accepted_rows: 0,
    carried_rows: 0,
    window_rows: 0,
    dropped_no_spill_rows: 0,
    dropped_spill_blocked_rows: 0,
    removed_rows: 0,
    ...custody,
  };
  const info: StoreInfo = {
    shard: 0,
    role: 'writer',
    log: LOG,
    floor: 1,
    head: 1,
    rows: complete.window_rows,
    series: 0,
    blocks: 0,
    bytes: { total: 0, head: 0, blocks: 0, series: 0, pull: 0 },
    budget_bytes: 1,
    lag: 0,
    retention_ms: 1,
    custody: complete,
    counters: {},
    health,
    ...parts,
  };
  return { id: 's', version: '1', info };
}

function spillover(custody: Partial<SpilloverCustody>): Described<SpilloverInfo> {
  const complete: SpilloverCustody = {
    log: LOG,
    carried_rows: 0,
    uncounted_rows: 0,
    segment_rows: 0,
    deleted_rows: 0,
    dropped_rows: 0,
    older_log_rows: 0,
    ...custody,
  };
  const info: SpilloverInfo = {
    shard: 0,
    position: null,
    segments: 0,
    bytes: 0,
    budget_bytes: 1,
    lag: 0,
    custody: complete,
    counters: {},
    health,
  };
  return { id: 'p', version: '1', info };
}

function law(stores: Described<StoreInfo>[], spillovers: Described<SpilloverInfo>[]): Custody {
  const [custody, ...others] = custodyOf(stores, spillovers);
  expect(others).toEqual([]);
  return custody as Custody;
}

const GOOD_STORE = { accepted_rows: 123_456, carried_rows: 122_456, window_rows: 1_000 };
const GOOD_SPILL = { carried_rows: 122_256, segment_rows: 120_000, deleted_rows: 2_256 };

describe('the law of custody of a shard', () => {
  test('holds when every row is somewhere once', () => {
    const custody = law([store(GOOD_STORE)], [spillover(GOOD_SPILL)]);
    expect(custody).toMatchObject({ transit_rows: 200, window_rows: 1_000, lost_rows: 0, doubled_rows: 0, holds: true, problem: null });
    expect(custodyLine(custody)).toBe(
      'custody of shard 0: 123 456 accepted = 1 000 window + 200 transit + 120 000 segments + 2 256 deleted + 0 dropped: holds',
    );
  });

  test('does not hold when one row is missing from the segments, or one too many is there', () => {
    const lost = law([store(GOOD_STORE)], [spillover({ ...GOOD_SPILL, segment_rows: 119_999 })]);
    expect(lost).toMatchObject({ lost_rows: 1, doubled_rows: 0, holds: false });
    expect(custodyLine(lost)).toMatch(/\+ 1 lost: does NOT hold: 1 row is lost by the spill: compare `spillway segments list`/);
    const doubled = law([store(GOOD_STORE)], [spillover({ ...GOOD_SPILL, segment_rows: 120_001 })]);
    expect(doubled).toMatchObject({ lost_rows: 0, doubled_rows: 1, holds: false });
    expect(custodyLine(doubled)).toMatch(/123 456 accepted \+ 1 doubled = .*: does NOT hold: 1 row is doubled by the spill/);
  });

  test('does not hold when the store has taken more than it has, or has more than it took', () => {
    expect(law([store({ ...GOOD_STORE, window_rows: 960 })], [spillover(GOOD_SPILL)])).toMatchObject({
      lost_rows: 40,
      problem: expect.stringMatching(/^40 rows are lost by the store/),
    });
    expect(law([store({ ...GOOD_STORE, window_rows: 1_001 })], [spillover(GOOD_SPILL)])).toMatchObject({ doubled_rows: 1, holds: false });
  });

  test('a loss here does not make up for a double there', () => {
    const custody = law([store({ ...GOOD_STORE, window_rows: 999 })], [spillover({ ...GOOD_SPILL, segment_rows: 120_001 })]);
    expect(custody).toMatchObject({ lost_rows: 1, doubled_rows: 1, holds: false });
  });

  test('what is dropped, removed or from before the count is counted as such', () => {
    const custody = law(
      [store({ accepted_rows: 21, carried_rows: 10, window_rows: 5, dropped_spill_blocked_rows: 4, removed_rows: 2 })],
      [spillover({ carried_rows: 10, uncounted_rows: 7, segment_rows: 14, dropped_rows: 3, older_log_rows: 9 })],
    );
    expect(custody).toMatchObject({
      dropped_rows: 7,
      dropped_spill_blocked_rows: 4,
      dropped_spillover_rows: 3,
      removed_rows: 2,
      holds: true,
    });
    expect(custodyLine(custody)).toBe(
      'custody of shard 0: 21 accepted + 7 uncounted = 5 window + 0 transit + 14 segments + 0 deleted + 7 dropped + 2 removed: holds; 9 of older logs',
    );
  });

  test('rows that a store does not know to be stored yet are in the segments, not in its window', () => {
    const custody = law(
      [store({ accepted_rows: 30, carried_rows: 10, window_rows: 20 })],
      [spillover({ carried_rows: 25, segment_rows: 25 })],
    );
    expect(custody).toMatchObject({ window_rows: 5, transit_rows: 0, segment_rows: 25, holds: true });
  });

  test('a spillover cannot have more than the store has accepted', () => {
    const custody = law(
      [store({ accepted_rows: 10, carried_rows: 4, window_rows: 6 })],
      [spillover({ carried_rows: 11, segment_rows: 11 })],
    );
    expect(custody).toMatchObject({ window_rows: 0, doubled_rows: 1, holds: false, problem: expect.stringMatching(/1 rows more/) });
  });

  test('unless the store has yet to read them again', () => {
    const reading = store({ accepted_rows: 10, carried_rows: 4, window_rows: 6 }, { health: { ready: false, problems: [] } });
    expect(law([reading], [spillover({ carried_rows: 11, segment_rows: 11 })])).toMatchObject({
      accepted_rows: 11,
      window_rows: 0,
      segment_rows: 11,
      holds: true,
    });
  });

  test('of a log that has just begun, the spillover knows nothing; of a newer one, the store is cut off', () => {
    const old = spillover({ log: LOG - 1, carried_rows: 50, segment_rows: 50 });
    expect(law([store({ accepted_rows: 3, carried_rows: 1, window_rows: 2 })], [old])).toMatchObject({
      transit_rows: 1,
      segment_rows: 0,
      older_log_rows: 50,
      holds: true,
    });
    expect(law([store({})], [spillover({ log: LOG + 1 })])).toMatchObject({ holds: false, problem: expect.stringMatching(/cut off/) });
  });

  test('without a spillover nothing may have gone to it', () => {
    expect(law([store({ accepted_rows: 9, window_rows: 4, dropped_no_spill_rows: 5 })], [])).toMatchObject({
      dropped_rows: 5,
      holds: true,
    });
    expect(law([store({ accepted_rows: 9, window_rows: 4, carried_rows: 5 })], [])).toMatchObject({
      transit_rows: 5,
      holds: false,
      problem: expect.stringMatching(/no spillover answers/),
    });
  });

  test('of several stores the writer counts; several spillovers are a problem', () => {
    const follower = store({ accepted_rows: 1, window_rows: 1 }, { role: 'follower' });
    expect(law([follower, store(GOOD_STORE)], [spillover(GOOD_SPILL)])).toMatchObject({ accepted_rows: 123_456, holds: true });
    expect(law([store(GOOD_STORE)], [spillover(GOOD_SPILL), spillover(GOOD_SPILL)])).toMatchObject({
      holds: false,
      problem: expect.stringMatching(/2 spillovers answer/),
    });
  });

  test('whatever the terms, both sides are printed equal', () => {
    const rows = fc.nat({ max: 50 });
    const stores = fc.record({
      accepted_rows: rows,
      carried_rows: rows,
      window_rows: rows,
      dropped_no_spill_rows: rows,
      removed_rows: rows,
    });
    const spills = fc.record({ carried_rows: rows, uncounted_rows: rows, segment_rows: rows, deleted_rows: rows, dropped_rows: rows });
    fc.assert(
      fc.property(stores, fc.option(spills), (one, spill) => {
        const custody = law([store(one)], spill === null ? [] : [spillover(spill)]);
        expect(custody.accepted_rows + custody.uncounted_rows + custody.doubled_rows).toBe(
          custody.window_rows +
            custody.transit_rows +
            custody.segment_rows +
            custody.deleted_rows +
            custody.dropped_rows +
            custody.removed_rows +
            custody.lost_rows,
        );
        if (custody.lost_rows + custody.doubled_rows > 0) expect(custody.holds).toBe(false);
      }),
    );
  });
});

describe('the law of custody of a collector', () => {
  const counters = {
    sampled_rows: 500,
    spool_found_rows: 20,
    accepted_rows: 480,
    outbox_rows: 10,
    spool_rows: 25,
    dropped_refused_rows: 5,
  };
  const info = (changed: Record<string, number> = {}): CollectorInfo => ({
    host: 'web-1',
    boot: 'b',
    units: 1,
    counters: { ...counters, ...changed },
    health,
  });

  test('holds when every row taken is acknowledged, held or dropped', () => {
    const custody = collectorCustodyOf(info());
    expect(custody).toMatchObject({ dropped_rows: 5, holds: true });
    expect(collectorCustodyLine(custody)).toBe(
      'custody of collector web-1: 500 sampled + 20 found in the spool = 480 accepted + 10 outbox + 25 spool + 5 dropped: holds',
    );
  });

  test('does not hold when one is missing or one too many', () => {
    expect(collectorCustodyOf(info({ outbox_rows: 9 }))).toMatchObject({ holds: false, problem: expect.stringMatching(/^1 row is lost/) });
    expect(collectorCustodyOf(info({ dropped_spool_full_rows: 2 }))).toMatchObject({
      problem: expect.stringMatching(/^2 rows are doubled/),
    });
  });
});
