// The outbox and its spool against a naive model: a list of all batches ever added, each with where it is. Limits are so
// small that every edge is reached.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FRESH_MS, Outbox } from '../../services/collector/core/outbox.ts';
import type { SpoolRecord } from '../../services/collector/core/spool-record.ts';

const BYTES_MAX = 200;
const IN_FLIGHT_MAX = 3;
/** Batches that the modelled disk holds. */
const DISK_BATCHES_MAX = 4;

type Place =
  | 'fresh'
  | 'backlog'
  | 'loaded'
  | 'in_flight'
  | 'spooling'
  | 'disk'
  | 'acknowledged'
  | 'outbox_full'
  | 'refused'
  | 'spool_full'
  | 'spool_lost';
interface Modelled {
  id: string;
  bytes: number;
  rows: number;
  place: Place;
  addedMs: number;
  order: number;
  /** Position in the spool; null when it was never there. */
  seq: number | null;
  isLate: boolean;
}

const HELD: Place[] = ['fresh', 'backlog', 'loaded', 'in_flight', 'spooling'];

const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('load' as const) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('add' as const), size: fc.integer({ min: 22, max: 210 }) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 400, FRESH_MS) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constantFrom('acknowledge' as const, 'fail' as const, 'refuse' as const), which: fc.nat(20) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('connect' as const, 'disconnect' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('spool' as const),
      occasion: fc.constantFrom('memory' as const, 'waiting' as const, 'ending' as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('spooled' as const, 'not_spooled' as const, 'lose' as const) }),
  },
);

class Model {
  readonly all: Modelled[] = [];
  isConnected = false;
  nowMs = 0;
  orders = 0;

  in(...places: Place[]): Modelled[] {
    return this.all.filter((one) => places.includes(one.place)).toSorted((a, b) => a.order - b.order);
  }
  sum(of: 'bytes' | 'rows', ...places: Place[]): number {
    return this.in(...places).reduce((total, one) => total + one[of], 0);
  }
  age(): void {
    for (const one of this.in('fresh')) if (this.nowMs - one.addedMs >= FRESH_MS) one.place = 'backlog';
  }
  back(one: Modelled): void {
    one.place = one.seq === null ? 'backlog' : 'loaded';
  }
  add(id: string, bytes: number, rows: number): void {
    while (this.sum('bytes', ...HELD) + bytes > BYTES_MAX) {
      const oldest = this.in('backlog')[0] ?? this.in('fresh')[0] ?? this.in('loaded')[0];
      if (oldest === undefined) break;
      oldest.place = 'outbox_full';
    }
    const fits = this.sum('bytes', ...HELD) + bytes <= BYTES_MAX;
    const place = fits ? (this.isConnected ? 'fresh' : 'backlog') : 'outbox_full';
    this.all.push({ id, bytes, rows, place, addedMs: this.nowMs, order: this.orders++, seq: null, isLate: false });
  }
  next(): Modelled | undefined {
    if (!this.isConnected || this.in('in_flight').length >= IN_FLIGHT_MAX) return undefined;
    this.age();
    const fresh = this.in('fresh')[0];
    if (fresh !== undefined) return fresh;
    if (this.in('in_flight').filter(({ isLate }) => isLate).length >= IN_FLIGHT_MAX - 1) return undefined;
    return this.in('backlog')[0] ?? this.in('loaded')[0];
  }
}

function payloadOf(size: number): Buffer {
  return Buffer.from(`{"late":false}`.padEnd(size));
}

describe('Outbox', () => {
  test('does what a list and a filter do: every batch ends once, acknowledged or counted, and memory stays within the limit', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
        const outbox = new Outbox({ bytesMax: BYTES_MAX, inFlightMax: IN_FLIGHT_MAX });
        const model = new Model();
        const disk: SpoolRecord[] = [];
        let writing: SpoolRecord[] = [];
        for (const step of actions) {
          switch (step.do) {
            case 'add': {
              const id = `b${model.all.length}`;
              const rows = model.all.length + 1;
              model.add(id, step.size, rows);
              outbox.add({ id, rows, payload: payloadOf(step.size) }, model.nowMs);
              break;
            }
            case 'wait':
              model.nowMs += step.ms;
              break;
            case 'take': {
              const expected = model.next();
              const taken = outbox.takeNext(model.nowMs);
              expect(taken?.id).toBe(expected?.id);
              if (expected === undefined || taken === null) break;
              expected.isLate ||= expected.place !== 'fresh';
              expect(JSON.parse(Buffer.from(taken.payload).toString())).toEqual({ late: expected.isLate });
              expected.place = 'in_flight';
              break;
            }
            case 'acknowledge': {
              // Outcomes may come for anything that was ever handed out, also after a disconnection.
              const one = model.all[step.which];
              if (one === undefined) break;
              const isHeld = ['in_flight', 'backlog', 'loaded'].includes(one.place);
              expect(outbox.acknowledged(one.id)).toBe(isHeld);
              if (isHeld) one.place = 'acknowledged';
              break;
            }
            case 'fail':
            case 'refuse': {
              const one = model.all[step.which];
              if (one === undefined) break;
              if (step.do === 'fail') outbox.failed(one.id);
              else outbox.refused(one.id);
              if (one.place !== 'in_flight') break;
              if (step.do === 'fail') model.back(one);
              else one.place = 'refused';
              break;
            }
            case 'connect':
              outbox.connected();
              model.isConnected = true;
              break;
            case 'disconnect':
              outbox.disconnected();
              model.isConnected = false;
              for (const one of model.in('fresh', 'in_flight')) model.back(one);
              break;
            case 'spool': {
              const taken = outbox.takeForSpool(model.nowMs, step.occasion);
              if (writing.length > 0) {
                expect(taken).toEqual([]);
                break;
              }
              model.age();
              const candidates = [...model.in('backlog'), ...model.in('fresh')];
              const due: Modelled[] = [];
              for (const one of candidates) {
                const left = model.sum('bytes', ...HELD) - due.reduce((total, { bytes }) => total + bytes, 0);
                const isOld = step.occasion === 'waiting' && model.nowMs - one.addedMs >= FRESH_MS;
                if (step.occasion === 'ending' || left > BYTES_MAX / 2 || isOld) due.push(one);
                else if (one.place === 'fresh') break;
              }
              // The first that is not due ends its place: what follows it is younger.
              expect(taken.map(({ id }) => id)).toEqual(due.map(({ id }) => id));
              for (const one of due) one.place = 'spooling';
              writing = taken;
              break;
            }
            case 'spooled':
            case 'not_spooled': {
              if (step.do === 'spooled') {
                outbox.spooled();
                disk.push(...writing);
                for (const record of writing)
                  Object.assign(model.all.find(({ id }) => id === record.id) as Modelled, { place: 'disk', seq: record.seq });
                while (disk.length > DISK_BATCHES_MAX) {
                  const gone = disk.shift() as SpoolRecord;
                  outbox.spool.discardBelow(disk[0]?.seq ?? outbox.spool.end, 'spool_full');
                  const one = model.all.find(({ id }) => id === gone.id) as Modelled;
                  if (one.place === 'disk') one.place = 'spool_full';
                }
              } else {
                outbox.notSpooled();
                for (const one of model.in('spooling')) model.back(one);
              }
              writing = [];
              break;
            }
            case 'lose': {
              // Somebody deletes the oldest file, and nobody tells: reading finds the hole.
              const gone = disk.shift();
              const one = gone && (model.all.find(({ id }) => id === gone.id) as Modelled);
              if (one?.place === 'disk') one.place = 'spool_lost';
              outbox.spool.discardBelow(disk[0]?.seq ?? outbox.spool.end, 'spool_lost');
              break;
            }
            case 'load': {
              const isWanted = model.isConnected && model.in('disk').length > 0 && model.in('backlog', 'loaded').length === 0;
              if (!isWanted) {
                expect(outbox.loadBytes).toBe(0);
                break;
              }
              const records = disk.filter(({ seq }) => seq >= outbox.spool.read).slice(0, 2);
              outbox.loaded(records, model.nowMs);
              for (const record of records) {
                const one = model.all.find(({ id }) => id === record.id) as Modelled;
                if (model.sum('bytes', ...HELD) + one.bytes > BYTES_MAX) break;
                Object.assign(one, { place: 'loaded', order: model.orders++, addedMs: model.nowMs, isLate: false });
              }
              break;
            }
          }
          expect(outbox.bytes).toBe(model.sum('bytes', ...HELD));
          expect(outbox.bytes).toBeLessThanOrEqual(BYTES_MAX);
          expect(outbox.rows).toBe(model.sum('rows', ...HELD));
          expect(outbox.batches).toBe(model.in(...HELD).length);
          expect(outbox.spool.waitingRows).toBe(model.sum('rows', 'disk'));
          const reasons = ['outbox_full', 'refused', 'spool_full', 'spool_lost'] as const;
          expect(outbox.droppedRows).toEqual(Object.fromEntries(reasons.map((reason) => [reason, model.sum('rows', reason)])));
          const exposed = model.in(...HELD).filter(({ seq }) => seq === null);
          expect(outbox.exposedRows).toBe(exposed.reduce((total, { rows }) => total + rows, 0));
          // Nothing that is neither acknowledged nor counted may be deleted from the disk.
          const needed = model.in('disk', 'loaded', 'in_flight').flatMap(({ seq }) => (seq === null ? [] : [seq]));
          for (const seq of needed) expect(outbox.spool.doneBelow).toBeLessThanOrEqual(seq);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
