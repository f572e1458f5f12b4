// restart: a store with a full window is killed; from the start of the next one to its first correct answer. Correct: the newest
// sample of a series, and as many rows in the window as before, less a block at most: where chapters begin moves the limit a little.

import { eventually } from '../test/support/eventually.ts';
import { type Bench, type BenchContext, sizesOf } from './bench.ts';
import { Installation } from './installation.ts';
import { type Measured, measuredBy, SPILLWAY } from './measurements.ts';
import { syntheticTrace } from './trace.ts';

const SERIES = [1_000, 10_000];
const SERIES_QUICK = [1_000];
const MEMORY_BYTES_QUICK = 1024 * 1024;
const ANSWER_MS_MAX = 120_000;
const ASK_INTERVAL_MS = 5;
/** The rest is a block of a full default window, at least. */
const ROWS_SHARE_MIN = 0.97;

export const restartBench: Bench = {
  name: 'restart',
  rivals: [],
  rounds: 5,
  tasks: (context) =>
    sizesOf(context, SERIES, SERIES_QUICK).map((series) => ({ label: `${series} series`, run: () => restarted(context, series) })),
};

async function restarted(context: BenchContext, series: number): Promise<Measured[]> {
  const settings: Record<string, string> = context.isQuick ? { SPILLWAY_MAX_MEMORY_BYTES: `${MEMORY_BYTES_QUICK}` } : {};
  const installation = await Installation.start(context.root, settings);
  try {
    installation.startService('spillover');
    const killed = installation.startService('store');
    await installation.ready();
    const { rows } = await installation.fill(syntheticTrace({ series }));
    const [wanted] = await installation.client.latest({ host: 'host-0', unit: 'service-0' }, 1);
    await killed.kill();
    const startMs = performance.now();
    installation.startService('store');
    await eventually(
      async () => {
        const [found] = await installation.client.latest({ host: 'host-0', unit: 'service-0' }, 1);
        if (found === undefined || found.seq !== wanted?.seq) throw new Error(`position ${found?.seq} instead of ${wanted?.seq}`);
      },
      { withinMs: ANSWER_MS_MAX, everyMs: ASK_INTERVAL_MS },
    );
    const answerMs = performance.now() - startMs;
    const after = await installation.client.storeInfo(0);
    if (after.rows < rows * ROWS_SHARE_MIN) throw new Error(`${after.rows} rows in the window after the restart, ${rows} before`);
    const one = measuredBy(`${series} series`, SPILLWAY);
    return [one('start_to_first_answer', 'ms', answerMs), one('rows_replayed', 'rows', rows)];
  } finally {
    await installation.end();
  }
}
