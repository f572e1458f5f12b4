// Judges a stack at rest by what its own commands say: every batch that the log has taken is read exactly once and whole, from
// window or segments. Pure: the answers go in, sentences come out.
//
// The load comes from real collectors, so what was sent is not known beforehand. What is known: positions in the log have no holes,
// a batch has one row of each unit of its host, and a collector counts what it has sampled.

import type { Sample } from '#shared/contract/row';
import type { Status } from '../../cli/status.ts';

/** A sample as a range has it; only a live one has no position. */
export type StoredSample = Sample & { seq: number };

export interface Evidence {
  /** One range over all that there is. */
  readonly samples: readonly StoredSample[];
  /** While the collectors still ran; they were stopped after it, in order, so that nothing is under way. */
  readonly before: Status;
  /** When nothing was left to do. */
  readonly after: Status;
}

const EXAMPLES_MAX = 10;

/** @returns what must not be; empty when all is well */
export function custodyViolations({ samples, before, after }: Evidence): string[] {
  const batches = batchesOf(samples);
  return [...doubled(samples), ...holes(batches), ...torn(batches), ...unread(batches, before), ...unaccounted(samples, after)];
}

interface BatchRows {
  readonly seq: number;
  readonly host: string;
  readonly ts: number;
  readonly units: readonly string[];
  /** Tells one life of a collector from the next: its own process, which is a unit of every host. */
  readonly collector: string;
}

function batchesOf(samples: readonly StoredSample[]): BatchRows[] {
  const bySeq = new Map<number, StoredSample[]>();
  for (const sample of samples) {
    const rows = bySeq.get(sample.seq);
    if (rows === undefined) bySeq.set(sample.seq, [sample]);
    else rows.push(sample);
  }
  return [...bySeq.values()]
    .map((rows) => {
      const { seq, host, ts } = rows[0] as StoredSample;
      const own = rows.find(({ unit }) => unit === 'collector');
      return { seq, host, ts, units: rows.map(({ unit }) => unit).sort(), collector: `${own?.pid} ${own?.started}` };
    })
    .sort((a, b) => a.seq - b.seq);
}

/** The same reading twice, be it at one position or at two. */
function doubled(samples: readonly StoredSample[]): string[] {
  const seen = new Map<string, number>();
  const twice: string[] = [];
  for (const { host, unit, ts, seq } of samples) {
    const key = `${host}/${unit} at ${ts}`;
    const first = seen.get(key);
    if (first === undefined) seen.set(key, seq);
    else twice.push(`doubled: ${key}, at positions ${first} and ${seq}`);
  }
  return twice.slice(0, EXAMPLES_MAX);
}

function holes(batches: readonly BatchRows[]): string[] {
  const missing: string[] = [];
  let next = 1;
  for (const { seq } of batches) {
    if (seq > next) missing.push(`lost: positions ${next} to ${seq - 1}`);
    next = seq + 1;
  }
  return missing.slice(0, EXAMPLES_MAX);
}

/** A collector has the same units all its life. */
function torn(batches: readonly BatchRows[]): string[] {
  const units = new Map<string, string>();
  for (const batch of batches) {
    const key = lifeOf(batch);
    const own = batch.units.join(' ');
    if (own.length > (units.get(key)?.length ?? 0)) units.set(key, own);
  }
  return batches
    .filter((batch) => batch.units.join(' ') !== units.get(lifeOf(batch)))
    .map((batch) => `lost: of position ${batch.seq} of ${batch.host} only ${batch.units.join(' ')} of ${units.get(lifeOf(batch))}`)
    .slice(0, EXAMPLES_MAX);
}

const lifeOf = ({ host, collector }: BatchRows): string => `${host} ${collector}`;

/** What a collector had sampled is read, and it has dropped nothing. */
function unread(batches: readonly BatchRows[], { services }: Status): string[] {
  const newest = new Map<string, BatchRows>();
  for (const batch of batches) if (batch.ts > (newest.get(batch.host)?.ts ?? 0)) newest.set(batch.host, batch);
  return services
    .filter(({ service }) => service === 'collector')
    .flatMap(({ where: host, counters }) => {
      const last = newest.get(host);
      const own = batches.filter((batch) => last !== undefined && lifeOf(batch) === lifeOf(last));
      const rows = own.reduce((sum, { units }) => sum + units.length, 0);
      const sampled = counters['sampled_rows'] ?? 0;
      const dropped = Object.entries(counters).filter(([name, count]) => name.startsWith('dropped_') && count > 0);
      return [
        ...(rows < sampled ? [`lost: ${host} sampled ${sampled} rows or more since its start, ${rows} are read`] : []),
        ...dropped.map(([name, count]) => `dropped: ${name} of ${host} is ${count}`),
      ];
    });
}

/** The law holds, with nothing in transit, deleted or dropped; and what is held is what is read. */
function unaccounted(samples: readonly StoredSample[], { custody }: Status): string[] {
  if (custody.length !== 1) return [`${custody.length} shards answer`];
  return custody.flatMap(({ problem, window_rows, transit_rows, segment_rows, deleted_rows, dropped_rows }) => [
    ...(problem === null ? [] : [problem]),
    ...(transit_rows === 0 ? [] : [`in transit: ${transit_rows} rows`]),
    ...(deleted_rows === 0 ? [] : [`deleted: ${deleted_rows} rows`]),
    ...(dropped_rows === 0 ? [] : [`dropped: ${dropped_rows} rows`]),
    ...(window_rows + segment_rows === samples.length
      ? []
      : [`${window_rows} rows in the window and ${segment_rows} in segments, ${samples.length} are read`]),
  ]);
}
