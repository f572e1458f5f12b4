import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IntervalSet } from '../../services/store/core/interval-set.ts';

type Command = ['add' | 'delete' | 'deleteBelow', number];

test('an interval set is a set of integers', () => {
  const commands = fc.array(fc.tuple(fc.constantFrom<Command[0]>('add', 'add', 'add', 'delete', 'deleteBelow'), fc.nat({ max: 30 })), {
    maxLength: 80,
  });
  fc.assert(
    fc.property(commands, (list) => {
      const set = new IntervalSet();
      const model = new Set<number>();
      for (const [command, value] of list) {
        if (command === 'add') {
          expect(set.add(value)).toBe(!model.has(value));
          model.add(value);
        } else if (command === 'delete') {
          set.delete(value);
          model.delete(value);
        } else {
          set.deleteBelow(value);
          for (const one of model) if (one < value) model.delete(one);
        }
        for (let one = 0; one <= 31; one++) expect(set.has(one), `${command} ${value}: has ${one}`).toBe(model.has(one));
        const ranges = set.ranges;
        for (const [i, range] of ranges.entries()) {
          expect(range.first).toBeLessThanOrEqual(range.last);
          if (i > 0) expect(range.first, 'ranges never touch').toBeGreaterThan((ranges[i - 1]?.last ?? 0) + 1);
        }
      }
    }),
    { numRuns: 500 },
  );
});
