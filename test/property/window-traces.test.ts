import { expect, test } from 'vitest';
import { traceOf } from '../../bench/trace.ts';
import { evictionEvents } from '../../services/store/core/eviction-events.ts';
import { Window } from '../../services/store/core/window.ts';
import { rowsOfBatch } from '../support/batches.ts';

const RECORDING = 'bench/traces/recorded.jsonl.gz';

/** Takes everything out as the store does. */
function rowsOut(window: Window): string[] {
  const lines: string[] = [];
  while (window.floor < window.next) {
    const plan = { log: 1, to: window.next, reason: 'memory', carriesRows: true, carriedRows: 0 } as const;
    const [event] = evictionEvents(window, plan);
    if (event === undefined) throw new Error(`nothing leaves the window at ${window.floor}`);
    lines.push(...new TextDecoder().decode(event.body).split('\n').slice(0, -1));
    window.evictTo(event.to);
  }
  return lines;
}

test.each([
  { name: 'recorded', series: 1, rowsOfBlock: 1 },
  { name: 'recorded', series: 68, rowsOfBlock: 68 },
  { name: 'recorded', series: 250, rowsOfBlock: 7_000 },
  { name: 'recorded', series: 1_000, rowsOfBlock: Number.POSITIVE_INFINITY },
  { name: 'synthetic', series: 1, rowsOfBlock: 300 },
  { name: 'synthetic', series: 250, rowsOfBlock: Number.POSITIVE_INFINITY },
] as const)('a $name trace of $series series comes out as it went in, in blocks of $rowsOfBlock rows', ({ name, series, rowsOfBlock }) => {
  const window = new Window({ budgetBytes: 64 << 20, floor: 1 });
  const batches = traceOf(name, { series }, RECORDING).take(Math.max(series * 3, 20_000));
  let unsealed = 0;
  batches.forEach((batch, i) => {
    expect(window.append(batch, i + 1, batch.ts, batch.ts)).toBe('appended');
    unsealed += batch.unit.length;
    if (unsealed < rowsOfBlock) return;
    window.seal();
    unsealed = 0;
  });
  expect(rowsOut(window)).toEqual(batches.flatMap((batch, i) => rowsOfBatch(batch, i + 1)));
});
