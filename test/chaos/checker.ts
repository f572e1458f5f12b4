// Judges what was read against what was accepted: every accepted (host, boot, tick, unit) exactly once, with its values and at
// its place in the log. Pure: the acknowledgements go in, the rows go in, a verdict comes out.
//
// A batch is `accepted` when JetStream said so, and `unknown` when it was sent and nobody said anything until the end: its
// rows may be there or not, but not twice. A row of which nothing was ever sent is a violation as well.

import { type BatchKey, hostName, knownValues } from './known-batch.ts';

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
  /** A value differs from the one that was sent. */
  readonly wrong: number;
  /** Rows of which nothing was sent. */
  readonly unexpected: number;
  /** The first of each kind. */
  readonly examples: readonly Violation[];
}

interface Expected extends BatchKey {
  readonly ts: number;
  /** Position in the log that the acknowledgement named; null when there was none. */
  seq: number | null;
  readonly times: Uint8Array;
}

const EXAMPLES_MAX = 10;
const METRICS = ['cpu_percent', 'rss_bytes', 'io_read_bytes', 'io_write_bytes', 'net_rx_bytes', 'net_tx_bytes', 'threads'] as const;

export class Ledger {
  /** By host, then time; a host has one tick at a time, which may be in parts. */
  private readonly batches = new Map<string, Map<number, Expected[]>>();

  /** To be told before the first attempt to publish. @returns tells that JetStream has it, and where */
  sent(key: BatchKey, ts: number): (seq: number) => void {
    const expected: Expected = { ...key, ts, seq: null, times: new Uint8Array(key.units) };
    const name = hostName(key.host);
    let ofHost = this.batches.get(name);
    if (ofHost === undefined) {
      ofHost = new Map();
      this.batches.set(name, ofHost);
    }
    const atTime = ofHost.get(ts);
    if (atTime === undefined) ofHost.set(ts, [expected]);
    else atTime.push(expected);
    return (seq) => {
      expected.seq = seq;
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

  *all(): Generator<Expected> {
    for (const ofHost of this.batches.values()) for (const atTime of ofHost.values()) yield* atTime;
  }

  find(host: string, ts: number, unit: number): Expected | null {
    const atTime = this.batches.get(host)?.get(ts);
    return atTime?.find(({ firstUnit, units }) => unit >= firstUnit && unit < firstUnit + units) ?? null;
  }
}

export class Check {
  private readonly ledger: Ledger;
  private readonly from: number;
  private readonly to: number;
  private seen = 0;
  private doubled = 0;
  private wrong = 0;
  private unexpected = 0;
  private readonly examples: Violation[] = [];
  private readonly exampleCounts = new Map<Violation['kind'], number>();

  constructor(ledger: Ledger, from: number, to: number) {
    this.ledger = ledger;
    this.from = from;
    this.to = to;
  }

  row(row: SeenRow): void {
    this.seen++;
    const unit = /^unit-(\d+)$/.exec(row.unit)?.[1];
    const batch = unit === undefined ? null : this.ledger.find(row.host, row.ts, Number(unit));
    if (batch === null || unit === undefined) {
      this.unexpected++;
      this.example('unexpected', row, null, `nothing was sent of ${row.host}/${row.unit} at ${row.ts}`);
      return;
    }
    const index = Number(unit) - batch.firstUnit;
    const times = (batch.times[index] as number) + 1;
    batch.times[index] = Math.min(255, times);
    if (times > 1) {
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
    const { seen, doubled, wrong, unexpected, examples } = this;
    return { accepted, unknown, seen, lost, doubled, wrong, unexpected, examples };
  }

  private misplaced({ seq }: SeenRow): string | null {
    return seq < this.from || seq >= this.to ? `position ${seq} does not belong here: from ${this.from}, below ${this.to}` : null;
  }

  private example(kind: Violation['kind'], row: { host: string; unit: string }, batch: BatchKey | null, detail: string): void {
    const count = this.exampleCounts.get(kind) ?? 0;
    this.exampleCounts.set(kind, count + 1);
    if (count >= EXAMPLES_MAX) return;
    this.examples.push({ kind, host: row.host, boot: batch?.boot ?? -1, tick: batch?.tick ?? -1, unit: row.unit, detail });
  }
}

export const isClean = (verdict: Verdict): boolean =>
  verdict.lost === 0 && verdict.doubled === 0 && verdict.wrong === 0 && verdict.unexpected === 0;

function differenceOf(row: SeenRow, batch: Expected, unit: number): string | null {
  const known = knownValues(batch.host, batch.boot, batch.tick, unit);
  if (row.state !== 'running') return `state ${row.state}`;
  if (row.pid !== known.pid) return `pid ${row.pid}, sent ${known.pid}`;
  if (row.started !== known.started) return `started ${row.started}, sent ${known.started}`;
  for (const name of METRICS) if (row.metrics[name] !== known[name]) return `${name} ${row.metrics[name]}, sent ${known[name]}`;
  if (batch.seq !== null && row.seq !== batch.seq) return `at position ${row.seq}, accepted at ${batch.seq}`;
  return null;
}
