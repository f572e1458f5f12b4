// A load that goes on beside what is measured: at a rate, or as fast as it is taken.

import { pause } from '#shared/runtime/wait';

/**
 * Works through the items in order in some lanes. An item of n rows is begun when its time has come at the rate.
 * @param ratePerSecond rows; Infinity: each item as soon as a lane is free
 */
export async function work<Item extends { readonly rows: number }>(
  items: Iterable<Item>,
  lanes: number,
  ratePerSecond: number,
  take: (item: Item) => Promise<unknown>,
): Promise<void> {
  const left = items[Symbol.iterator]();
  const startMs = performance.now();
  let rows = 0;
  const lane = async (): Promise<void> => {
    for (let next = left.next(); !next.done; next = left.next()) {
      const dueMs = startMs + (rows / ratePerSecond) * 1_000;
      rows += next.value.rows;
      if (dueMs > performance.now()) await pause(dueMs - performance.now());
      await take(next.value);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

/** Repeats a measurement, one after the other, until the load has ended, once at least. */
export async function whileRunning(load: Promise<unknown>, measure: () => Promise<number>): Promise<number[]> {
  let isRunning = true;
  const ended = load.finally(() => {
    isRunning = false;
  });
  const values: number[] = [];
  try {
    while (isRunning) values.push(await measure());
  } finally {
    await ended;
  }
  return values;
}
