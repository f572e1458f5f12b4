// The load: hosts with hundreds of units, each publishing a known batch per tick until JetStream acknowledges it, as a collector
// does: what may have arrived first, then fresh ones, what was held back last, each under its id, over connections of their own. What waits is bounded: a host
// whose outbox is full takes no tick. Nothing is ever given up, so that at the end every batch sent is one that was accepted.
//
// On demand a host starts again (ticks begin at 0), has its clock set wrong for a while, holds batches back and sends them late and
// shuffled, sends accepted ones again with or without their id, and somebody sends what is no batch at all.

import { setTimeout as delay } from 'node:timers/promises';
import { type Batch, encodeBatch } from '#shared/contract/batch';
import type { NatsLink } from '#shared/nats/connection';
import { publishToLog } from '#shared/nats/full-stream';
import type { Accept, Ledger } from './checker.ts';
import { hostName, knownBatch } from './known-batch.ts';
import type { Random } from './random.ts';

export interface HostPlan {
  readonly units: number;
  readonly intervalMs: number;
  /** A tick whose batch is larger is split into parts. */
  readonly bytesMax: number;
}

/** The fourth splits its ticks into parts; the fifth's ticks need several eviction events each. */
export const HOSTS: readonly HostPlan[] = [
  { units: 30, intervalMs: 100, bytesMax: 512 * 1024 },
  { units: 30, intervalMs: 100, bytesMax: 512 * 1024 },
  { units: 30, intervalMs: 100, bytesMax: 512 * 1024 },
  { units: 60, intervalMs: 500, bytesMax: 2_500 },
  { units: 2_000, intervalMs: 5_000, bytesMax: 512 * 1024 },
];

const IN_FLIGHT_MAX = 4;
const WAITING_MAX = 2_000;
const ACK_TIMEOUT_MS = 3_000;
const RETRY_MS = 100;
const BURST_ROWS_MIN = 1_000;
const BURST_BATCHES_MIN = 40;
/** About twenty seconds of all hosts. */
const RECENT_MAX = 800;
const REPEAT_TIMEOUT_MS = 1_000;
/** The first ones, which tick several times a second. */
const QUICK_HOSTS = 4;
const CLOCK_STEP_MS_MAX = 1_500;
const CLOCK_STEP_MINUTES_MAX = 24 * 60;

interface Waiting {
  readonly id: string;
  readonly host: number;
  readonly payload: Uint8Array;
  readonly rows: number;
  readonly accept: Accept;
  /** Number of the start of nats-server that its first attempt without an answer was made to; null when there was none. */
  unansweredStart: number | null;
}

interface Accepted {
  readonly batch: Waiting;
  /** Number of the start of nats-server that has acknowledged it. */
  readonly serverStart: number;
}

export class Load {
  /** Accepted batches sent again without and with their id, and messages that are no batch. */
  readonly sentBesides = { duplicates: 0, retries: 0, malformed: 0 };
  acceptedRows = 0;
  lastSeq = 0;
  /** Acknowledgements that said "had it already". */
  duplicateAcks = 0;
  private readonly ledger: Ledger;
  /** The collectors' connection, which may be cut. */
  private readonly link: NatsLink;
  /** For what is sent once and never again: it must arrive soon or not at all. */
  private readonly besides: NatsLink;
  private readonly serverStart: () => number;
  private readonly hosts: Host[];
  private isTicking = true;
  private isRunning = true;
  private readonly work: Promise<unknown>[] = [];
  private duplicatesWanted = 0;
  /** Accepted lately, oldest first: what a collector sends again whose acknowledgement was lost in an outage. */
  private readonly recent: Accepted[] = [];

  /** @param serverStart number of nats-server's present start */
  constructor(ledger: Ledger, link: NatsLink, besides: NatsLink, serverStart: () => number, plans: readonly HostPlan[]) {
    this.ledger = ledger;
    this.link = link;
    this.besides = besides;
    this.serverStart = serverStart;
    this.hosts = plans.map((plan, number) => new Host(number, plan));
  }

  get waiting(): number {
    return this.hosts.reduce(
      (sum, host) => sum + host.failed.length + host.fresh.length + host.backlog.length + host.held.length + host.inFlight,
      0,
    );
  }

  start(): void {
    for (const host of this.hosts) {
      this.work.push(this.tickHost(host));
      for (let i = 0; i < IN_FLIGHT_MAX; i++) this.work.push(this.publishOf(host));
    }
  }

  /** No more ticks; what waits is still published. */
  stopTicking(): void {
    this.isTicking = false;
    for (const host of this.hosts) host.release();
  }

  async stop(): Promise<void> {
    this.isTicking = false;
    this.isRunning = false;
    await Promise.all(this.work);
  }

  /** The collector of a host starts again; what it holds is handed over to the new one. */
  startAgain(random: Random): void {
    const host = this.hosts[random.between(0, this.hosts.length - 1)] as Host;
    host.boot++;
    host.tick = 0;
  }

  /** The next accepted batches are sent once more, at once and without an id. */
  sendDuplicates(count: number): void {
    this.duplicatesWanted += count;
  }

  /** The clock of a host is wrong by minutes to a day for a while, ahead or behind, and is then set right. */
  async stepClock(random: Random, ms: number): Promise<void> {
    const host = this.hosts[random.between(0, QUICK_HOSTS - 1)] as Host;
    const stepMs = random.between(1, CLOCK_STEP_MINUTES_MAX) * 60_000;
    host.clockStepMs = random.isTrueIn(0.5) ? stepMs : -stepMs;
    // Two ticks at least: one that took none in the meantime would not have noticed. Not for long: every query has to read what spans a day.
    await delay(Math.min(CLOCK_STEP_MS_MAX, Math.max(ms, 2 * host.plan.intervalMs)));
    host.clockStepMs = 0;
  }

  /**
   * Batches accepted up to a while ago are sent again under their ids, as by a collector that missed the acknowledgement.
   * @param isIdKnown only such as this very nats-server has accepted since it was started: it still knows their ids
   */
  async retryAccepted(random: Random, count: number, isIdKnown: boolean): Promise<void> {
    for (let i = 0; i < count; i++) {
      const known = isIdKnown ? this.recent.filter(({ serverStart }) => serverStart === this.serverStart()) : this.recent;
      const batch = known[random.between(0, known.length - 1)]?.batch;
      if (batch === undefined || !this.besides.isConnected()) continue;
      const options = { id: batch.id, timeoutMs: REPEAT_TIMEOUT_MS };
      const again = publishToLog(this.besides, this.besides.subjects.samples(0, hostName(batch.host)), batch.payload, options);
      await again.then(
        () => this.sentBesides.retries++,
        () => undefined,
      );
    }
  }

  /** A host's batches of a while, sent afterwards in another order. */
  async holdBack(random: Random, ms: number): Promise<void> {
    const host = this.hosts[random.between(0, this.hosts.length - 1)] as Host;
    host.isHolding = true;
    await delay(ms);
    host.isHolding = false;
    host.held = random.shuffled(host.held);
    host.release();
  }

  sendMalformed(random: Random, count: number): void {
    for (let i = 0; i < count; i++) {
      if (!this.besides.isConnected()) return;
      const host = random.between(0, this.hosts.length - 1);
      const good = knownBatch(host, 999, i, 3, Date.now(), 100, false);
      const subject = this.besides.subjects.samples(0, hostName(host));
      const message = malformed(good, random.between(0, 6));
      void publishToLog(this.besides, subject, message, { timeoutMs: REPEAT_TIMEOUT_MS }).catch(() => undefined);
      this.sentBesides.malformed++;
    }
  }

  private async tickHost(host: Host): Promise<void> {
    let dueMs = Date.now();
    while (this.isTicking) {
      if (host.fresh.length + host.backlog.length + host.held.length < WAITING_MAX) this.tick(host);
      dueMs = Math.max(dueMs + host.plan.intervalMs, Date.now());
      await delay(dueMs - Date.now());
    }
  }

  private tick(host: Host): void {
    const { plan, number, boot } = host;
    // On the interval's multiples, as a collector's: a clock set back gives the same times again.
    const nowMs = Date.now() + host.clockStepMs;
    const ts = nowMs - (nowMs % plan.intervalMs);
    const tick = host.tick++;
    const batch = knownBatch(number, boot, tick, plan.units, ts, plan.intervalMs, host.isHolding);
    let firstUnit = 0;
    for (const { id, payload, rows } of encodeBatch(batch, plan.bytesMax)) {
      const accept = this.ledger.sent({ host: number, boot, tick, firstUnit, units: rows }, ts);
      (host.isHolding ? host.held : host.fresh).push({ id, host: number, payload, rows, accept, unansweredStart: null });
      firstUnit += rows;
    }
  }

  private async publishOf(host: Host): Promise<void> {
    while (this.isRunning) {
      const next = this.link.isConnected() ? (host.failed.shift() ?? host.fresh.shift() ?? host.backlog.shift()) : undefined;
      if (next === undefined) {
        await delay(10);
        continue;
      }
      host.inFlight++;
      const isAccepted = await this.publish(next);
      host.inFlight--;
      if (isAccepted) continue;
      host.failed.push(next);
      await delay(RETRY_MS);
    }
  }

  /**
   * A copy without an id counts once only while the first is in the window. Small ones in calm times are next to each other in the
   * log; in a burst of large ones a small window may have moved on between the two.
   */
  private isNearEnough(batch: Waiting): boolean {
    return batch.rows < BURST_ROWS_MIN && this.waiting < BURST_BATCHES_MIN;
  }

  private async publish(batch: Waiting): Promise<boolean> {
    const subject = this.link.subjects.samples(0, hostName(batch.host));
    const serverStart = this.serverStart();
    try {
      const ack = await publishToLog(this.link, subject, batch.payload, { id: batch.id, timeoutMs: ACK_TIMEOUT_MS });
      batch.accept(ack.seq, batch.unansweredStart !== null && batch.unansweredStart !== serverStart);
      this.acceptedRows += batch.rows;
      this.lastSeq = Math.max(this.lastSeq, ack.seq);
      if (ack.duplicate) this.duplicateAcks++;
      this.recent.push({ batch, serverStart });
      if (this.recent.length > RECENT_MAX) this.recent.shift();
    } catch {
      batch.unansweredStart ??= serverStart;
      return false;
    }
    if (this.duplicatesWanted > 0 && this.isNearEnough(batch) && this.besides.isConnected()) {
      this.duplicatesWanted--;
      const again = publishToLog(this.besides, subject, batch.payload, { timeoutMs: REPEAT_TIMEOUT_MS });
      await again.then(
        () => this.sentBesides.duplicates++,
        () => undefined,
      );
    }
    return true;
  }
}

class Host {
  readonly number: number;
  readonly plan: HostPlan;
  boot = 1;
  tick = 0;
  /** What its clock is ahead of the true time. */
  clockStepMs = 0;
  /** Sent without an answer: they may be in the log, so they are sent again while that can be noticed. */
  failed: Waiting[] = [];
  fresh: Waiting[] = [];
  backlog: Waiting[] = [];
  held: Waiting[] = [];
  isHolding = false;
  inFlight = 0;

  constructor(number: number, plan: HostPlan) {
    this.number = number;
    this.plan = plan;
  }

  release(): void {
    this.isHolding = false;
    this.backlog.push(...this.held);
    this.held = [];
  }
}

/** Messages that a store must refuse, each for another reason. */
function malformed(good: Batch, which: number): string {
  switch (which) {
    case 0:
      return 'not JSON at all\r\n';
    case 1:
      return JSON.stringify({ ...good, v: 2 });
    case 2:
      return JSON.stringify({ ...good, pid: [1] });
    case 3:
      return JSON.stringify({ ...good, host: 'somebody-else' });
    case 4:
      return JSON.stringify({ ...good, rss_bytes: [-1, 1.5, 'many'] });
    case 5:
      return JSON.stringify({ ...good, unit: ['same', 'same', 'same'] });
    default:
      return JSON.stringify(good).slice(0, -20);
  }
}
