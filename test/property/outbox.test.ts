import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Outbox } from '../../services/collector/core/outbox.ts';

// The model: a list of all batches ever added, each with where it is. Limits are so small that every edge is reached.
const BYTES_MAX = 200;
const IN_FLIGHT_MAX = 2;

type Place = 'fresh' | 'backlog' | 'in_flight' | 'acknowledged' | 'dropped' | 'refused';
interface Modelled {
  id: string;
  bytes: number;
  rows: number;
  place: Place;
}

const action = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('add' as const), size: fc.integer({ min: 22, max: 210 }) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('take' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constantFrom('acknowledge' as const, 'fail' as const, 'refuse' as const), which: fc.nat(20) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('connect' as const, 'disconnect' as const) }) },
);

class Model {
  readonly all: Modelled[] = [];
  isConnected = false;

  in(...places: Place[]): Modelled[] {
    return this.all.filter((one) => places.includes(one.place));
  }
  sum(of: 'bytes' | 'rows', ...places: Place[]): number {
    return this.in(...places).reduce((total, one) => total + one[of], 0);
  }
  add(added: Modelled): void {
    const held = () => this.sum('bytes', 'fresh', 'backlog', 'in_flight');
    while (held() + added.bytes > BYTES_MAX) {
      // Backlog is always older than fresh, so the first waiting one is the oldest.
      const oldest = this.in('backlog')[0] ?? this.in('fresh')[0];
      if (oldest === undefined) break;
      oldest.place = 'dropped';
    }
    const fits = held() + added.bytes <= BYTES_MAX;
    this.all.push({ ...added, place: fits ? (this.isConnected ? 'fresh' : 'backlog') : 'dropped' });
  }
  next(): Modelled | undefined {
    if (!this.isConnected || this.in('in_flight').length >= IN_FLIGHT_MAX) return undefined;
    return this.in('fresh')[0] ?? this.in('backlog')[0];
  }
}

describe('Outbox', () => {
  test('does what a list and a filter do: every batch ends once, acknowledged or counted, and bytes stay within the limit', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
        const outbox = new Outbox({ bytesMax: BYTES_MAX, inFlightMax: IN_FLIGHT_MAX });
        const model = new Model();
        let acknowledgedRows = 0;
        for (const step of actions) {
          switch (step.do) {
            case 'add': {
              const id = `b${model.all.length}`;
              const rows = model.all.length + 1;
              model.add({ id, bytes: step.size, rows, place: 'fresh' });
              outbox.add({ id, rows, payload: Buffer.from(`{"late":false}`.padEnd(step.size)) });
              break;
            }
            case 'take': {
              const expected = model.next();
              const taken = outbox.takeNext();
              expect(taken?.id).toBe(expected?.id);
              if (expected === undefined || taken === null) break;
              const { late } = JSON.parse(Buffer.from(taken.payload).toString()) as { late: boolean };
              if (expected.place === 'backlog') expect(late).toBe(true);
              else expect(late).toBe(false);
              expected.place = 'in_flight';
              break;
            }
            case 'acknowledge': {
              // Outcomes may come for anything that was ever handed out, also after a disconnection.
              const one = model.all[step.which];
              if (one === undefined) break;
              const isHeld = one.place === 'in_flight' || one.place === 'backlog';
              expect(outbox.acknowledged(one.id)).toBe(isHeld);
              if (isHeld) {
                one.place = 'acknowledged';
                acknowledgedRows += one.rows;
              }
              break;
            }
            case 'fail':
            case 'refuse': {
              const one = model.all[step.which];
              if (one === undefined) break;
              if (step.do === 'fail') outbox.failed(one.id);
              else outbox.refused(one.id);
              if (one.place === 'in_flight') one.place = step.do === 'fail' ? 'backlog' : 'refused';
              break;
            }
            case 'connect':
              outbox.connected();
              model.isConnected = true;
              break;
            case 'disconnect':
              outbox.disconnected();
              model.isConnected = false;
              for (const one of model.in('fresh', 'in_flight')) one.place = 'backlog';
              break;
          }
          expect(outbox.bytes).toBe(model.sum('bytes', 'fresh', 'backlog', 'in_flight'));
          expect(outbox.bytes).toBeLessThanOrEqual(BYTES_MAX);
          expect(outbox.rows).toBe(model.sum('rows', 'fresh', 'backlog', 'in_flight'));
          expect(outbox.batches).toBe(model.in('fresh', 'backlog', 'in_flight').length);
          expect(outbox.droppedRows).toEqual({ outbox_full: model.sum('rows', 'dropped'), refused: model.sum('rows', 'refused') });
          const added = model.all.reduce((total, one) => total + one.rows, 0);
          expect(acknowledgedRows + outbox.rows + outbox.droppedRows.outbox_full + outbox.droppedRows.refused).toBe(added);
        }
      }),
      { numRuns: 500 },
    );
  });
});
