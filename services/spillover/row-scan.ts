// Finds the rows that a query may want in a block of a segment. Where it names a unit or a host, lines without that name are not
// even looked at, which is most of them.

import { forEachLine, forEachLineWith } from '#shared/segments/record-format';
import { createRowTest, nameIn, type RowFilter } from './core/sample-filter.ts';

/** Visits the rows of whole lines that may be wanted, with their times. */
export type RowScan = (block: Buffer, visit: (start: number, end: number, timeMs: number) => void) => void;

/** @param log of the segment whose blocks are scanned */
export function createRowScan(filter: RowFilter, log: number): RowScan {
  const test = createRowTest(filter, log);
  const name = nameIn(filter);
  return (block, visit) => {
    const visitWanted = (start: number, end: number): boolean => {
      const timeMs = test(block, start, end);
      if (timeMs !== null) visit(start, end, timeMs);
      return true;
    };
    if (name === null) forEachLine(block, visitWanted);
    else forEachLineWith(block, name, visitWanted);
  };
}
