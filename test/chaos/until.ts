// Waiting for something in a round, which may never come.

import { setTimeout as delay } from 'node:timers/promises';

const INTERVAL_MS = 100;

/** True as soon as the condition holds; a question that is not answered is asked again. */
export async function until(withinMs: number, condition: () => Promise<boolean>): Promise<boolean> {
  const deadlineMs = Date.now() + withinMs;
  for (;;) {
    if (await condition().catch(() => false)) return true;
    if (Date.now() >= deadlineMs) return false;
    await delay(INTERVAL_MS);
  }
}
