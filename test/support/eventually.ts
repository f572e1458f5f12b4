// Waits for a condition instead of sleeping: the assertion itself is repeated until it holds.

import { setTimeout as delay } from 'node:timers/promises';

export async function eventually<T>(check: () => T | Promise<T>, options: { withinMs?: number; everyMs?: number } = {}): Promise<T> {
  const deadlineMs = Date.now() + (options.withinMs ?? 10_000);
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() >= deadlineMs) throw error;
      await delay(options.everyMs ?? 20);
    }
  }
}
