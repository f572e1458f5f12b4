// What the collector has done so far and what is wrong now, for `info`, for the service statistics and for health.
// The equation it must always satisfy: sampled_rows + spool_found_rows = accepted_rows + outbox_rows + spool_rows + dropped_*_rows.

import type { CollectorInfo, Health } from '#shared/contract/queries';
import type { Outbox } from './core/outbox.ts';
import type { TickSchedule } from './core/tick-schedule.ts';
import type { UnitWatch } from './core/unit-watch.ts';
import type { Sampler } from './sampler.ts';
import type { Spool } from './spool.ts';

export interface Tally {
  /** Published in the last tick; before the first, those of the configuration. */
  units: number;
  /** Not published in the last tick, for there were more than `units_max`. */
  unitsLeftOut: number;
  sampledRows: number;
  acceptedRows: number;
  /** Batches JetStream had already: a publish whose acknowledgement was lost. */
  duplicateBatches: number;
  publishFailures: number;
  tickFailures: number;
  /** CPU of the last tick from reading to encoding, µs, and of all so far. */
  tickCpuUsLast: number;
  tickCpuUsTotal: number;
  /** Duration of the last tick, ms. */
  tickMsLast: number;
  /** Why publishing or sampling fails at present, as a sentence; null when it does not. */
  publishProblem: string | null;
  tickProblem: string | null;
}

export function emptyTally(): Tally {
  return {
    units: 0,
    unitsLeftOut: 0,
    sampledRows: 0,
    acceptedRows: 0,
    duplicateBatches: 0,
    publishFailures: 0,
    tickFailures: 0,
    tickCpuUsLast: 0,
    tickCpuUsTotal: 0,
    tickMsLast: 0,
    publishProblem: null,
    tickProblem: null,
  };
}

export interface TallyView {
  readonly host: string;
  readonly boot: string;
  /** Units are configured at all. */
  readonly hasTargets: boolean;
  /** Why the configuration that is there now is not in force; null when it is. */
  readonly configProblem: string | null;
  readonly tally: Tally;
  readonly outbox: Outbox;
  readonly spool: Spool | null;
  readonly schedule: TickSchedule;
  readonly watch: UnitWatch;
  readonly sampler: Sampler;
}

export function collectorInfo(view: TallyView): CollectorInfo {
  const { tally, outbox, schedule } = view;
  return {
    host: view.host,
    boot: view.boot,
    units: tally.units,
    counters: {
      sampled_rows: tally.sampledRows,
      accepted_rows: tally.acceptedRows,
      duplicate_batches: tally.duplicateBatches,
      publish_failures: tally.publishFailures,
      outbox_batches: outbox.batches,
      outbox_rows: outbox.rows,
      outbox_bytes: outbox.bytes,
      spool_found_rows: outbox.spool.foundRows,
      spool_rows: outbox.spool.waitingRows,
      spool_batches: view.spool?.waitingBatches ?? 0,
      spool_bytes: view.spool?.diskBytes ?? 0,
      spool_quarantined_files: view.spool?.quarantined ?? 0,
      dropped_outbox_full_rows: outbox.droppedRows.outbox_full,
      dropped_refused_rows: outbox.droppedRows.refused,
      dropped_spool_full_rows: outbox.droppedRows.spool_full,
      dropped_spool_lost_rows: outbox.droppedRows.spool_lost,
      ticks: schedule.tick,
      ticks_skipped: schedule.skipped,
      tick_failures: tally.tickFailures,
      tick_cpu_us_last: tally.tickCpuUsLast,
      tick_cpu_us_total: tally.tickCpuUsTotal,
      tick_ms_last: tally.tickMsLast,
      processes: view.sampler.processes,
      units_left_out: tally.unitsLeftOut,
      units_missing: view.watch.missing().length,
    },
    health: healthOf(view),
  };
}

/** A unit without a process is no problem of the collector's: it is `missing` in the data, and `spillway targets` says why. */
function healthOf({ hasTargets, configProblem, tally, outbox, spool, sampler }: TallyView): Health {
  const problems: string[] = [];
  if (!hasTargets) problems.push('no units are configured: add some under units in spillway.yaml');
  if (configProblem !== null) problems.push(configProblem);
  if (tally.unitsLeftOut > 0) {
    problems.push(`there are more units than units_max (${tally.units}), ${tally.unitsLeftOut} not published: raise it, or match fewer`);
  }
  if (!outbox.isConnected) problems.push(`NATS is not connected: batches are kept in the outbox${spool === null ? '' : ' and the spool'}`);
  if (tally.publishProblem !== null) problems.push(tally.publishProblem);
  if (tally.tickProblem !== null) problems.push(tally.tickProblem);
  if (spool !== null && spool.problem !== null) problems.push(spool.problem);
  problems.push(...sampler.problems);
  return { ready: outbox.isConnected && tally.publishProblem === null && tally.tickProblem === null, problems };
}
