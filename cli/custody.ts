// The law of custody: every row accepted is in exactly one of window, transit, segments, or counted as deleted, dropped or
// removed. Pure. Each service counts its own terms where they happen; here they are put together and must add up.
//
// They are read one after the other while rows move, so the spillover is asked first: what a store has carried by then is never less
// than what the spillover has synced, and the difference is in transit.

import type { Described } from '#client/client';
import type { CollectorInfo, SpilloverCustody, SpilloverInfo, StoreInfo } from '#shared/contract/queries';

/**
 * Rows of the current log of one shard, by who has them. Always:
 * accepted + uncounted + doubled = window + transit + segments + deleted + dropped + removed + lost.
 */
export interface Custody {
  shard: number;
  log: number;
  accepted_rows: number;
  /** In the spill from before the events were counted. */
  uncounted_rows: number;
  window_rows: number;
  /** On their way from the window to a segment. */
  transit_rows: number;
  segment_rows: number;
  /** Deleted with the oldest segments, to keep the budget of the spill. */
  deleted_rows: number;
  /** The sum of the three below. */
  dropped_rows: number;
  dropped_no_spill_rows: number;
  dropped_spill_blocked_rows: number;
  /** Rows that no segment could take. */
  dropped_spillover_rows: number;
  /** Forgotten because somebody asked for it. */
  removed_rows: number;
  /** In none of these, and in more than one. */
  lost_rows: number;
  doubled_rows: number;
  /** In segments of older logs; in no other term. */
  older_log_rows: number;
  holds: boolean;
  /** What is wrong and what to look at; null when it holds. */
  problem: string | null;
}

/** Rows of one collector since its start: sampled + found in the spool = accepted + outbox + spool + dropped. */
export interface CollectorCustody {
  host: string;
  sampled_rows: number;
  spool_found_rows: number;
  accepted_rows: number;
  outbox_rows: number;
  spool_rows: number;
  dropped_rows: number;
  holds: boolean;
  problem: string | null;
}

const NO_SPILL: SpilloverCustody = {
  log: null,
  carried_rows: 0,
  uncounted_rows: 0,
  segment_rows: 0,
  deleted_rows: 0,
  dropped_rows: 0,
  older_log_rows: 0,
};

/** One for each shard that has a store. @param spillovers as they were before the stores were asked */
export function custodyOf(stores: readonly Described<StoreInfo>[], spillovers: readonly Described<SpilloverInfo>[]): Custody[] {
  const shards = [...new Set(stores.map((store) => store.info.shard))].sort((a, b) => a - b);
  return shards.flatMap((shard) => {
    const replicas = stores.filter((one) => one.info.shard === shard).map((one) => one.info);
    const store = replicas.find((one) => one.role === 'writer') ?? replicas[0];
    const spills = spillovers.filter((one) => one.info.shard === shard).map((one) => one.info.custody);
    return store === undefined ? [] : [custodyOfShard(store, spills)];
  });
}

function custodyOfShard({ shard, log, custody: store, health }: StoreInfo, spills: readonly SpilloverCustody[]): Custody {
  const spill = ofLog(spills[0] ?? NO_SPILL, log);
  // The store may not have heard yet that its events are stored: those rows are still in its window, and already in a segment.
  const ahead = Math.max(0, spill.carried_rows - store.carried_rows);
  const beyond = Math.max(0, ahead - store.window_rows);
  // A store that has begun to read its log anew counts rows of a batch half in the spill when it comes to them.
  const unread = health.ready ? 0 : beyond;
  const surplus = beyond - unread;
  const dropped = store.dropped_no_spill_rows + store.dropped_spill_blocked_rows;
  const missingInStore = store.accepted_rows - (store.carried_rows + store.window_rows + dropped + store.removed_rows);
  const missingInSpill = spill.carried_rows + spill.uncounted_rows - (spill.segment_rows + spill.deleted_rows + spill.dropped_rows);
  const problems: string[] = [];
  if (missingInStore !== 0) problems.push(`${excessOf(missingInStore)} by the store: this is a bug in it, keep its log`);
  if (missingInSpill !== 0) {
    problems.push(
      `${excessOf(missingInSpill)} by the spill: compare \`spillway segments list\` and \`spillway segments verify\` with what was deleted, changed or moved to quarantine/ there, and with the gaps in the spillover's log`,
    );
  }
  if (surplus > 0) {
    problems.push(
      `the spillover has ${grouped(surplus)} rows more than the store has accepted: see whether the streams were restored from a backup or changed by somebody else`,
    );
  }
  if (spills.length > 1) problems.push(`${spills.length} spillovers answer for this shard and take each other's rows: stop all but one`);
  const [first] = spills;
  if (first === undefined && store.carried_rows > 0) {
    problems.push(`${grouped(store.carried_rows)} rows have gone to the spill, and no spillover answers for them: start it`);
  }
  if (first !== undefined && first.log !== null && first.log > log) {
    problems.push(`the spillover has rows of log ${first.log}, the store reads log ${log}: is the store cut off from NATS?`);
  }
  return {
    shard,
    log,
    accepted_rows: store.accepted_rows + unread,
    uncounted_rows: spill.uncounted_rows,
    window_rows: store.window_rows - ahead + beyond,
    transit_rows: Math.max(0, store.carried_rows - spill.carried_rows),
    segment_rows: spill.segment_rows,
    deleted_rows: spill.deleted_rows,
    dropped_rows: dropped + spill.dropped_rows,
    dropped_no_spill_rows: store.dropped_no_spill_rows,
    dropped_spill_blocked_rows: store.dropped_spill_blocked_rows,
    dropped_spillover_rows: spill.dropped_rows,
    removed_rows: store.removed_rows,
    lost_rows: Math.max(0, missingInStore) + Math.max(0, missingInSpill),
    doubled_rows: Math.max(0, -missingInStore) + Math.max(0, -missingInSpill) + surplus,
    older_log_rows: spill.older_log_rows,
    holds: problems.length === 0,
    problem: problems.length === 0 ? null : problems.join('; '),
  };
}

/** What the spillover knows of the store's log: of one that has just begun, nothing. */
function ofLog(spill: SpilloverCustody, log: number): SpilloverCustody {
  if (spill.log === log) return spill;
  return { ...NO_SPILL, older_log_rows: spill.older_log_rows + spill.segment_rows };
}

function excessOf(missing: number): string {
  const rows = Math.abs(missing);
  return `${grouped(rows)} ${rows === 1 ? 'row is' : 'rows are'} ${missing > 0 ? 'lost' : 'doubled'}`;
}

export function collectorCustodyOf({ host, counters }: CollectorInfo): CollectorCustody {
  const count = (name: string): number => counters[name] ?? 0;
  const dropped = Object.entries(counters).reduce((sum, [name, rows]) => (/^dropped_.*_rows$/.test(name) ? sum + rows : sum), 0);
  const taken = count('sampled_rows') + count('spool_found_rows');
  const missing = taken - (count('accepted_rows') + count('outbox_rows') + count('spool_rows') + dropped);
  return {
    host,
    sampled_rows: count('sampled_rows'),
    spool_found_rows: count('spool_found_rows'),
    accepted_rows: count('accepted_rows'),
    outbox_rows: count('outbox_rows'),
    spool_rows: count('spool_rows'),
    dropped_rows: dropped,
    holds: missing === 0,
    problem: missing === 0 ? null : `${excessOf(missing)} by the collector: this is a bug in it, keep its log`,
  };
}

export function custodyLine(custody: Custody): string {
  const { shard, accepted_rows, uncounted_rows, dropped_rows, removed_rows, older_log_rows } = custody;
  const accepted = sum([
    [accepted_rows, 'accepted'],
    ...optional(uncounted_rows, 'uncounted'),
    ...optional(custody.doubled_rows, 'doubled'),
  ]);
  const held = sum([
    [custody.window_rows, 'window'],
    [custody.transit_rows, 'transit'],
    [custody.segment_rows, 'segments'],
    [custody.deleted_rows, 'deleted'],
    [dropped_rows, 'dropped'],
    ...optional(removed_rows, 'removed'),
    ...optional(custody.lost_rows, 'lost'),
  ]);
  const older = older_log_rows === 0 ? '' : `; ${grouped(older_log_rows)} of older logs`;
  return `custody of shard ${shard}: ${accepted} = ${held}: ${verdict(custody)}${older}`;
}

export function collectorCustodyLine(custody: CollectorCustody): string {
  const taken = sum([
    [custody.sampled_rows, 'sampled'],
    [custody.spool_found_rows, 'found in the spool'],
  ]);
  const held = sum([
    [custody.accepted_rows, 'accepted'],
    [custody.outbox_rows, 'outbox'],
    [custody.spool_rows, 'spool'],
    [custody.dropped_rows, 'dropped'],
  ]);
  return `custody of collector ${custody.host}: ${taken} = ${held}: ${verdict(custody)}`;
}

function verdict({ problem }: { problem: string | null }): string {
  return problem === null ? 'holds' : `does NOT hold: ${problem}`;
}

function optional(rows: number, name: string): [number, string][] {
  return rows === 0 ? [] : [[rows, name]];
}

function sum(terms: readonly [rows: number, name: string][]): string {
  return terms.map(([rows, name]) => `${grouped(rows)} ${name}`).join(' + ');
}

/** `1 234 567` */
function grouped(rows: number): string {
  return `${rows}`.replace(/\B(?=(\d{3})+$)/g, ' ');
}
