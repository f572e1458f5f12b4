// In a file, and so a process, of its own: what other tests leave behind would be measured with it.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Window } from '../../services/store/core/window.ts';
import { batch, EPOCH_MS } from '../support/batches.ts';

async function held(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.();
    await nextTurn();
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** A window that has begun to evict. */
function load(hosts: number, unitsPerHost: number): Window {
  const window = new Window({ budgetBytes: 8 << 20, floor: 1 });
  for (let seq = 1; window.floor === 1; seq++) {
    const host = seq % hosts;
    const names = Array.from({ length: unitsPerHost }, (_, i) => `service-${i}.of-host-${host}`);
    const spread = (scale: number) => names.map((_, i) => ((seq * 7919 + i * 104_729) % 10_000) * scale);
    const metrics = { cpu_percent: spread(0.01), rss_bytes: spread(4096), io_read_bytes: spread(1001) };
    window.append(batch({ host: `host-${host}`, tick: seq, units: names, metrics }), seq, EPOCH_MS + seq, EPOCH_MS + seq);
    while (window.needsRoom()) window.evictTo(window.oldestBlockEnd());
  }
  return window;
}

test.each([
  { hosts: 1, unitsPerHost: 10 },
  { hosts: 20, unitsPerHost: 50 },
  { hosts: 100, unitsPerHost: 100 },
])(
  'the window reports what the process really holds: $hosts hosts of $unitsPerHost units',
  async ({ hosts, unitsPerHost }) => {
    if (globalThis.gc === undefined) throw new Error('run with --expose-gc');
    load(hosts, unitsPerHost); // compiled code and shared buffers are not growth
    const before = await held();
    const window = load(hosts, unitsPerHost);
    const grown = (await held()) - before;
    const reported = window.bytes.total;
    const message = `the process grew by ${grown}, the window reports ${reported}`;
    expect(grown / reported, message).toBeLessThan(1.1);
    expect(grown / reported, message).toBeGreaterThan(0.8);
  },
  60_000,
);
