// outage: nats-server is killed and stays away for a minute while a collector goes on. Every tick of every unit must be there
// afterwards, and the newest row must be young 2 s after the server is back. Beside it the NATS client alone, as a program
// without an outbox would use it: one publish a second, and what was not acknowledged is not sent again.

import { pause } from '#shared/runtime/wait';
import { eventually } from '../test/support/eventually.ts';
import type { Bench, BenchContext } from './bench.ts';
import { Installation } from './installation.ts';
import { type Measured, measuredBy, SPILLWAY } from './measurements.ts';

const OUTAGE_SECONDS = 60;
const OUTAGE_SECONDS_QUICK = 6;
const INTERVAL_MS = 1_000;
const BEFORE_MS = 5_000;
const LOOK_AFTER_MS = 2_000;
/** A tick a second, and as much again to get there. */
const CURRENT_MS_MAX = 2_000;
const ASK_INTERVAL_MS = 5;
const SETTLE_MS_MAX = 60_000;
const HOST = 'bench';
const CLIENT_ALONE = 'nats client alone';
const CLIENT_TIMEOUT_MS = 5_000;

export const outageBench: Bench = {
  name: 'outage',
  rivals: [],
  rounds: 3,
  tasks: (context) => {
    const seconds = context.size ?? (context.isQuick ? OUTAGE_SECONDS_QUICK : OUTAGE_SECONDS);
    return [{ label: `${seconds} s without NATS`, run: () => outage(context, seconds) }];
  },
};

async function outage(context: BenchContext, seconds: number): Promise<Measured[]> {
  const installation = await Installation.start(context.root, { SPILLWAY_SPOOL_PATH: 'spool' });
  const { nats, client } = installation;
  try {
    const store = installation.startService('store');
    const spillover = installation.startService('spillover');
    await installation.ready();
    installation.startService('collector', { collector: { self: true }, store: { pid: store.pid }, spillover: { pid: spillover.pid } });
    await eventually(() => newestAgeMs(installation), { withinMs: SETTLE_MS_MAX });
    await pause(BEFORE_MS);

    await nats.kill();
    const killedMs = Date.now();
    const alone = publishAlone(installation, seconds);
    await pause(seconds * 1_000);
    await nats.start();
    const backMs = Date.now();
    await pause(LOOK_AFTER_MS);
    const ageMs = await eventually(() => newestAgeMs(installation), { withinMs: SETTLE_MS_MAX, everyMs: ASK_INTERVAL_MS });
    const currentMs = await eventually(
      async () => {
        const age = await newestAgeMs(installation);
        if (age > CURRENT_MS_MAX) throw new Error(`the newest row is ${age} ms old`);
        return Date.now() - backMs;
      },
      { withinMs: SETTLE_MS_MAX, everyMs: ASK_INTERVAL_MS },
    );
    await eventually(
      async () => {
        const { counters } = await client.collectorInfo(HOST);
        const waiting = (counters['outbox_rows'] ?? 0) + (counters['spool_rows'] ?? 0);
        if (waiting > 0) throw new Error(`${waiting} rows still wait in the collector`);
      },
      { withinMs: SETTLE_MS_MAX },
    );
    const settledMs = Date.now();
    await installation.settled();

    const { samples } = await client.range({ host: HOST, fromMs: 0, toMs: settledMs });
    const { counters } = await client.collectorInfo(HOST);
    const own = measuredBy(`${seconds} s without NATS`, SPILLWAY);
    const rival = measuredBy(`${seconds} s without NATS`, CLIENT_ALONE);
    const { sent, lost } = await alone;
    const taken = ticksOf(samples, killedMs, backMs);
    return [
      own('rows_in_outage', 'rows', taken.expected),
      own('rows_lost', 'rows', taken.lost),
      own('rows_lost_share', 'ratio', taken.lost / taken.expected),
      own('ticks_skipped', 'ticks', counters['ticks_skipped'] ?? 0),
      own('age_of_newest_2s_after', 's', ageMs / 1_000),
      own('newest_row_young_after', 's', currentMs / 1_000),
      own('backlog_done_after', 's', (settledMs - backMs) / 1_000),
      rival('rows_lost_share', 'ratio', lost / sent),
    ];
  } finally {
    await installation.end();
  }
}

async function newestAgeMs({ client }: Installation): Promise<number> {
  const [newest] = await client.latest({ host: HOST, unit: 'collector' }, 1);
  if (newest === undefined) throw new Error('nothing of the collector yet');
  return Date.now() - newest.ts;
}

/** Of every unit and every tick that fell into the outage: how many there must be, and how many are not there. */
function ticksOf(samples: readonly { unit: string; ts: number }[], fromMs: number, toMs: number): { expected: number; lost: number } {
  const units = new Set(samples.map(({ unit }) => unit));
  const found = new Set(samples.map(({ unit, ts }) => `${unit}\0${Math.round(ts / INTERVAL_MS)}`));
  const first = Math.ceil(fromMs / INTERVAL_MS);
  const last = Math.floor(toMs / INTERVAL_MS);
  let lost = 0;
  for (const unit of units) for (let tick = first; tick <= last; tick++) if (!found.has(`${unit}\0${tick}`)) lost++;
  return { expected: units.size * (last - first + 1), lost };
}

/** One publish a second for as long as the server is away. */
async function publishAlone({ link }: Installation, seconds: number): Promise<{ sent: number; lost: number }> {
  const outcomes: Promise<boolean>[] = [];
  for (let i = 0; i < seconds; i++) {
    const publish = link.js.publish(link.subjects.samples(0, 'alone'), '{}', { timeout: CLIENT_TIMEOUT_MS });
    outcomes.push(
      publish.then(
        () => true,
        () => false,
      ),
    );
    await pause(INTERVAL_MS);
  }
  const arrived = await Promise.all(outcomes);
  return { sent: arrived.length, lost: arrived.filter((isArrived) => !isArrived).length };
}
