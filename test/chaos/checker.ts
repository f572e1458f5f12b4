// Judges what was read against what was accepted: every accepted (host, boot, tick, unit) exactly once, with its values and at
// its place in the log. Pure: the acknowledgements go in, the rows go in, a verdict comes out.
//
// A batch whose acknowledgement was lost, and which was sent again to a nats-server that had been started anew, may be there twice: that
// is promised only while the window has the first. Its rows are counted as `repeated`, never as lost or wrong in place.
//
// A row says by its values which one it is, never by its time: clocks are set back, and then a host has the same time twice.
//
// A batch is `accepted` when JetStream said so, and `unknown` when it was sent and nobody said anything until the end: its
// rows may be there or not, but not twice. A row of which nothing was ever sent is a violation as well.

import type { Sample } from '#shared/contract/row';
import { type BatchKey, hostName, knownValues, sourceOfValues } from './known-batch.ts';

/** One row as it was read, wherever: the fields that a reader sees. */
export interface SeenRow {
  readonly host: string;
  readonly unit: string;
  readonly ts: number;
  readonly seq: number;
  readonly state: string;
  readonly pid: number | null;
  readonly started: number | null;
  readonly metrics: { readonly [name: string]: unknown };
}

/** A row as a query shows it. */
export function seenRow({ host, unit, ts, seq, state, pid, started, ...metrics }: Sample): SeenRow {
  return { host, unit, ts, seq: seq ?? -1, state, pid, started, metrics };
}

export interface Violation {
  readonly kind: 'lost' | 'doubled' | 'wrong' | 'unexpected';
  readonly host: string;
  readonly boot: number;
  readonly tick: number;
  readonly unit: string;
  readonly detail: string;
}

export interface Verdict {
  readonly accepted: number;
  readonly unknown: number;
  readonly seen: number;
  readonly lost: number;
  /** Rows beyond the first. */
  readonly doubled: number;
  /** Rows beyond the first that are not promised to be only one. */
  readonly repeated: number;
  /** A value differs from the one that was sent. */
  readonly wrong: number;
  /** Rows of which nothing was sent. */
  readonly unexpected: number;
  /** The first of each kind, one of a batch. */
  readonly examples: readonly Violation[];
}

interface Expected extends BatchKey {
  readonly ts: number;
  /** Position in the log that the acknowledgement named; null when there was none. */
  seq: number | null;
  mayBeRepeated: boolean;
  readonly times: Uint8Array;
}

/** Tells that JetStream has it, where, and whether it may have taken an earlier attempt as well. */
export type Accept = (seq: number, mayBeRepeated?: boolean) => void;

const EXAMPLES_MAX = 10;
/** The last time there is in JavaScript. */
const TIME_MS_MAX = 8.64e15;
const METRICS = ['cpu_percent', 'rss_bytes', 'io_read_bytes', 'io_write_bytes', 'net_rx_bytes', 'net_tx_bytes', 'threads'] as const;

export class Ledger {
  /** By host, boot and tick; a tick may be in parts. */
  private readonly batches = new Map<string, Expected[]>();
  private readonly bySeq = new Map<number, Expected>();

  /** To be told before the first attempt to publish. */
  sent(key: BatchKey, ts: number): Accept {
    const expected: Expected = { ...key, ts, seq: null, mayBeRepeated: false, times: new Uint8Array(key.units) };
    const tick = tickKey(hostName(key.host), key.boot, key.tick);
    const parts = this.batches.get(tick);
    if (parts === undefined) this.batches.set(tick, [expected]);
    else parts.push(expected);
    return (seq, mayBeRepeated = false) => {
      expected.seq = seq;
      expected.mayBeRepeated = mayBeRepeated;
      this.bySeq.set(seq, expected);
    };
  }

  get acceptedRows(): number {
    let rows = 0;
    for (const batch of this.all()) if (batch.seq !== null) rows += batch.units;
    return rows;
  }

  /**
   * Begins a judgement. What is above or below the bounds in the log must not be there.
   * @param from first position whose rows are expected
   * @param to first position whose rows are not
   */
  check(from = 0, to = Number.POSITIVE_INFINITY): Check {
    for (const batch of this.all()) batch.times.fill(0);
    return new Check(this, from, to);
  }

  /** All of time cut into spans, both ends included, that hold about `rowsMax` rows each, or one time that has more. */
  spans(rowsMax: number): { readonly fromMs: number; readonly toMs: number }[] {
    const byTime = [...this.all()].sort((a, b) => a.ts - b.ts);
    const ends: number[] = [];
    let rows = 0;
    for (const [i, batch] of byTime.entries()) {
      rows += batch.units;
      if (rows < rowsMax || batch.ts === byTime[i + 1]?.ts) continue;
      ends.push(batch.ts);
      rows = 0;
    }
    return [...ends, TIME_MS_MAX].map((toMs, i) => ({ fromMs: i === 0 ? 0 : (ends[i - 1] as number) + 1, toMs }));
  }

  *all(): Generator<Expected> {
    for (const parts of this.batches.values()) yield* parts;
  }

  /** By what the row's values say; where these were changed, by its place in the log. */
  find(row: SeenRow, unit: number): Expected | null {
    const has = ({ firstUnit, units }: Expected): boolean => unit >= firstUnit && unit < firstUnit + units;
    const said = sourceOfValues(row.metrics['rss_bytes']);
    const parts = said?.unit === unit ? this.batches.get(tickKey(row.host, said.boot, said.tick)) : undefined;
    const atSeq = this.bySeq.get(row.seq);
    return parts?.find(has) ?? (atSeq !== undefined && hostName(atSeq.host) === row.host && has(atSeq) ? atSeq : null);
  }
}

export class Check {
  private readonly ledger: Ledger;
  private readonly from: number;
  private readonly to: number;
  private seen = 0;
  private doubled = 0;
  private repeated = 0;
  private wrong = 0;
  private unexpected = 0;
  private readonly examples: Violation[] = [];

  constructor(ledger: Ledger, from: number, to: number) {
    this.ledger = ledger;
    this.from = from;
    this.to = to;
  }

  row(row: SeenRow): void {
    this.seen++;
    const unit = /^unit-(\d+)$/.exec(row.unit)?.[1];
    const batch = unit === undefined ? null : this.ledger.find(row, Number(unit));
    if (batch === null || unit === undefined) {
      this.unexpected++;
      this.example('unexpected', row, null, `nothing like it was sent of ${row.host}/${row.unit}: time ${row.ts}, position ${row.seq}`);
      return;
    }
    const index = Number(unit) - batch.firstUnit;
    const times = (batch.times[index] as number) + 1;
    batch.times[index] = Math.min(255, times);
    if (times === 2 && batch.mayBeRepeated) {
      this.repeated++;
    } else if (times > 1) {
      this.doubled++;
      this.example('doubled', row, batch, `seen ${times} times, this time at position ${row.seq}, accepted at ${batch.seq}`);
      return;
    }
    const difference = differenceOf(row, batch, Number(unit)) ?? this.misplaced(row);
    if (difference === null) return;
    this.wrong++;
    this.example('wrong', row, batch, difference);
  }

  /** To be asked when every row has been told. */
  verdict(): Verdict {
    let accepted = 0;
    let unknown = 0;
    let lost = 0;
    for (const batch of this.ledger.all()) {
      if (batch.seq === null) {
        unknown += batch.units;
        continue;
      }
      if (batch.seq < this.from || batch.seq >= this.to) continue;
      accepted += batch.units;
      for (let i = 0; i < batch.units; i++) {
        if (batch.times[i] !== 0) continue;
        lost++;
        const unit = `unit-${batch.firstUnit + i}`;
        this.example('lost', { host: hostName(batch.host), unit }, batch, `accepted at position ${batch.seq}`);
      }
    }
    const { seen, doubled, repeated, wrong, unexpected, examples } = this;
    return { accepted, unknown, seen, lost, doubled, repeated, wrong, unexpected, examples };
  }

  private misplaced({ seq }: SeenRow): string | null {
    return seq < this.from || seq >= this.to ? `position ${seq} does not belong here: from ${this.from}, below ${this.to}` : null;
  }

  private example(kind: Violation['kind'], row: { host: string; unit: string }, batch: BatchKey | null, detail: string): void {
    const known = this.examples.filter((one) => one.kind === kind);
    const last = known.at(-1);
    const { boot, tick } = batch ?? { boot: -1, tick: -1 };
    if (known.length >= EXAMPLES_MAX || (batch !== null && last?.host === row.host && last.boot === boot && last.tick === tick)) return;
    this.examples.push({ kind, host: row.host, boot, tick, unit: row.unit, detail });
  }
}

const tickKey = (host: string, boot: number, tick: number): string => `${host} ${boot} ${tick}`;

export const isClean = (verdict: Verdict): boolean =>
  verdict.lost === 0 && verdict.doubled === 0 && verdict.wrong === 0 && verdict.unexpected === 0;

function differenceOf(row: SeenRow, batch: Expected, unit: number): string | null {
  const known = knownValues(batch.host, batch.boot, batch.tick, unit);
  if (row.ts !== batch.ts) return `time ${row.ts}, sent ${batch.ts}`;
  if (row.state !== 'running') return `state ${row.state}`;
  if (row.pid !== known.pid) return `pid ${row.pid}, sent ${known.pid}`;
  if (row.started !== known.started) return `started ${row.started}, sent ${known.started}`;
  for (const name of METRICS) if (row.metrics[name] !== known[name]) return `${name} ${row.metrics[name]}, sent ${known[name]}`;
  if (batch.seq !== null && row.seq !== batch.seq && !batch.mayBeRepeated) return `at position ${row.seq}, accepted at ${batch.seq}`;
  return null;
}
