// One round: the real store and spillover, a real nats-server, and messages from people who mean no good, with good batches in between.
//
// At the end every good row is there once, every bad message was refused for its reason, counted and published, nobody has ended by
// himself, and memory is where it was. Everything lives in one directory and on loopback; processes are ended by their pids.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { SpillwayClient } from '#client/client';
import { encodeBatch } from '#shared/contract/batch';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { ensureShard, logIdentity } from '#shared/nats/topology';
import { type Config, loadConfig } from '#shared/runtime/config';
import { freePort } from '#shared/runtime/free-port';
import { createLogger } from '#shared/runtime/logging';
import { isClean, Ledger, seenRow, type Verdict } from '../chaos/checker.ts';
import { hostName, knownBatch } from '../chaos/known-batch.ts';
import { ManagedProcess } from '../chaos/managed-process.ts';
import { Random } from '../chaos/random.ts';
import { readSegmentFiles } from '../chaos/segment-files.ts';
import { until } from '../chaos/until.ts';
import { serviceArgs } from '../support/service-args.ts';
import { badBatch, headerBlock } from './bad-batches.ts';
import { badEvent } from './bad-events.ts';
import { type StrangeQuery, strangeQuery } from './bad-queries.ts';
import { type MemoryReport, MemoryWatch } from './memory-watch.ts';
import { RawClient } from './raw-client.ts';

export interface FuzzOptions {
  /** Where the built program lies: `<root>/dist/cli/main.js`. */
  readonly root: string;
  readonly natsServer: string;
  readonly seed: number;
  /** Good and bad ones together. */
  readonly messages: number;
  readonly onProgress?: (phase: string, done: number, total: number) => void;
}

/** Refused messages by reason: sent, counted by the service, published to `rejected`. */
export interface Refusals {
  readonly sent: ReadonlyMap<string, number>;
  readonly counted: ReadonlyMap<string, number>;
  readonly published: ReadonlyMap<string, number>;
}

export interface FuzzReport {
  readonly seed: number;
  readonly seconds: number;
  readonly goodBatches: number;
  readonly queries: number;
  readonly store: Refusals;
  readonly spillover: Refusals;
  readonly memory: ReadonlyMap<string, MemoryReport>;
  readonly range: Verdict;
  /** The segment files alone, which must hold what is below the floor. */
  readonly files: Verdict;
  readonly problems: readonly string[];
  readonly isClean: boolean;
  /** Logs and data, kept when something was wrong; null when it was removed. */
  readonly directory: string | null;
}

const CHUNK = 500;
const IN_FLIGHT_MAX = 256;
const GOOD_SHARE = 0.15;
const EVENT_SHARE = 0.25;
const QUERIES_PER_CHUNK = 10;
const HOSTS = 4;
const TICK_MS = 10;
const START_MS = 1_763_678_400_000;
const SLICE_TICKS = 2_000;
/** Some ask for points of all rows there are, one after the other. */
const ANSWER_MS_MAX = 60_000;
const SETTLE_MS_MAX = 120_000;
const MEMORY_BYTES = 1024 * 1024;
/** Never full: what strangers fill to the brim may lose its oldest message with a server before 2.10.5. */
const STREAM_BYTES = 512 * 1024 * 1024;
const FULL = new Set([10077, 10047, 10023]);

/** @throws when the processes could not be started, or the server refused a message for another reason than being full */
export async function runFuzz(options: FuzzOptions): Promise<FuzzReport> {
  const round = new FuzzRound(options, mkdtempSync(join(tmpdir(), 'spillway-fuzz-')));
  try {
    return await round.run();
  } finally {
    await round.end();
  }
}

interface Outgoing {
  readonly subject: string;
  readonly headers: string;
  readonly data: Uint8Array;
  readonly onStored?: (seq: number) => void;
}

class FuzzRound {
  private readonly options: FuzzOptions;
  private readonly directory: string;
  private readonly random: Random;
  private readonly ledger = new Ledger();
  private readonly ends: (() => unknown)[] = [];
  private readonly processes: ManagedProcess[] = [];
  private readonly problems: string[] = [];
  private readonly sent = { store: new Map<string, number>(), spillover: new Map<string, number>() };
  private readonly published = { store: new Map<string, number>(), spillover: new Map<string, number>() };
  private raw!: RawClient;
  private link!: NatsLink;
  private client!: SpillwayClient;
  private tick = 0;
  private lastSeq = 0;
  private queries = 0;
  private isKept = true;
  private readonly startedMs = Date.now();

  constructor(options: FuzzOptions, directory: string) {
    this.options = options;
    this.directory = directory;
    this.random = new Random(options.seed);
    process.once('exit', this.endAtOnce);
  }

  async run(): Promise<FuzzReport> {
    const log = await this.start();
    const watches = new Map(this.processes.map((one) => [one.name, new MemoryWatch(one.pid ?? -1)]));
    await this.sendAll(badEvent(log));
    const floor = await this.settle();
    const memory = new Map([...watches].map(([name, watch]) => [name, watch.stop()]));
    const range = await this.judgeRange();
    const files = await this.judgeFiles(floor);
    const counted = { store: await this.countedBy('store'), spillover: await this.countedBy('spillover') };
    this.compare(counted);
    for (const one of this.processes)
      if (one.unexpectedExits > 0) this.problems.push(`${one.name} ended by itself ${one.unexpectedExits} times`);
    for (const [name, { isFlat }] of memory) if (!isFlat && name !== 'nats') this.problems.push(`the memory of ${name} has grown`);
    const isAllClean = isClean(range) && isClean(files) && this.problems.length === 0;
    this.isKept = !isAllClean;
    return {
      seed: this.options.seed,
      seconds: (Date.now() - this.startedMs) / 1_000,
      goodBatches: this.tick,
      queries: this.queries,
      store: { sent: this.sent.store, counted: counted.store, published: this.published.store },
      spillover: { sent: this.sent.spillover, counted: counted.spillover, published: this.published.spillover },
      memory,
      range,
      files,
      problems: this.problems,
      isClean: isAllClean,
      directory: this.isKept ? this.directory : null,
    };
  }

  async end(): Promise<void> {
    for (const end of this.ends.splice(0).reverse()) await Promise.resolve(end()).catch(() => undefined);
    process.off('exit', this.endAtOnce);
    if (!this.isKept) rmSync(this.directory, { recursive: true, force: true });
  }

  private readonly endAtOnce = (): void => {
    for (const { pid } of this.processes) if (pid !== null) process.kill(pid, 'SIGKILL');
  };

  /** @returns identity of the log */
  private async start(): Promise<number> {
    const { options, directory } = this;
    mkdirSync(join(directory, 'logs'));
    const port = await freePort();
    const others = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('SPILLWAY_')));
    const begin = (name: string, program: string, args: string[]): void => {
      const logFile = join(directory, 'logs', `${name}.log`);
      const one = new ManagedProcess({ name, program, args, env: { ...others, ...this.environment(port) }, cwd: directory, logFile });
      this.processes.push(one);
      this.ends.push(() => one.kill());
      one.start();
    };
    begin('nats', options.natsServer, ['-a', '127.0.0.1', '-p', `${port}`, '-js', '-sd', join(directory, 'nats')]);
    const config = loadConfig({ env: this.environment(port), cwd: directory });
    this.link = await this.connect(config);
    const { samples } = await ensureShard(this.link.jsm, this.link.subjects, config.nats, 0);
    this.client = new SpillwayClient(this.link, { timeoutMs: 10_000 });
    this.watchRejected();
    this.raw = await RawClient.open(port);
    this.ends.push(() => this.raw.close());
    for (const name of ['store', 'spillover']) begin(name, process.execPath, serviceArgs(options.root, name));
    const isReady = async () => (await this.client.storeInfo(0)).health.ready && (await this.client.spilloverInfo(0)).health.ready;
    if (!(await until(SETTLE_MS_MAX, isReady))) throw new Error(`the services were not ready in time; their logs are in ${directory}/logs`);
    return logIdentity(samples);
  }

  private environment(port: number): Record<string, string> {
    return {
      SPILLWAY_NATS_SERVERS: `nats://127.0.0.1:${port}`,
      SPILLWAY_HOST: 'fuzz',
      SPILLWAY_MAX_MEMORY_BYTES: `${MEMORY_BYTES}`,
      SPILLWAY_SAMPLES_MAX_BYTES: `${STREAM_BYTES}`,
      SPILLWAY_EVICTED_MAX_BYTES: `${STREAM_BYTES}`,
      SPILLWAY_SPILLOVER_PATH: join(this.directory, 'spill'),
      SPILLWAY_SPILLOVER_SEGMENT_BYTES: '4000000',
    };
  }

  private async connect(config: Config): Promise<NatsLink> {
    const link = await connectNats(config.nats, {
      name: 'fuzz',
      logger: createLogger('fuzz', 'silent'),
      signal: new AbortController().signal,
      giveUpAfterMs: 15_000,
    });
    this.ends.push(() => link.close());
    return link;
  }

  private watchRejected(): void {
    this.link.nc.subscribe(this.link.subjects.rejected, {
      callback: (error, message) => {
        if (error !== null) return;
        const isEvent = message.headers?.get('Spillway-Subject') === this.link.subjects.evicted(0);
        add(this.published[isEvent ? 'spillover' : 'store'], message.headers?.get('Spillway-Reason') ?? 'none');
      },
    });
  }

  private async sendAll(events: ReturnType<typeof badEvent>): Promise<void> {
    const { messages, seed, onProgress } = this.options;
    const sending: Promise<void>[] = [];
    // As long as the log has no message, events are not held against it.
    await Promise.all(this.goodBatch('').map((one) => this.deliver(one)));
    for (let done = 0; done < messages; done += CHUNK) {
      const drawn = <T>(values: fc.Arbitrary<T>, count: number): T[] => fc.sample(values, { numRuns: count, seed: seed ^ (done + 1) });
      const [batches, others, heads] = [drawn(badBatch, CHUNK), drawn(events, CHUNK), drawn(headerBlock, CHUNK)];
      for (let i = 0; i < Math.min(CHUNK, messages - done); i++) {
        const kind = this.random.next();
        while (this.raw.inFlight >= IN_FLIGHT_MAX) await delay(1);
        if (kind < GOOD_SHARE) sending.push(...this.goodBatch(heads[i] ?? '').map((one) => this.deliver(one)));
        else if (kind < GOOD_SHARE + EVENT_SHARE) {
          const { headers, body, reason } = others[i] as (typeof others)[number];
          add(this.sent.spillover, reason);
          sending.push(this.deliver({ subject: this.link.subjects.evicted(0), headers, data: body }));
        } else {
          const { token, headers, payload, reason } = batches[i] as (typeof batches)[number];
          add(this.sent.store, reason);
          sending.push(this.deliver({ subject: `${this.link.subjects.prefix}.samples.0.${token}`, headers, data: payload }));
        }
      }
      for (const query of drawn(strangeQuery, QUERIES_PER_CHUNK)) sending.push(this.ask(query));
      await Promise.all(sending.splice(0));
      onProgress?.('messages', Math.min(messages, done + CHUNK), messages);
    }
  }

  private goodBatch(headers: string): Outgoing[] {
    const tick = this.tick++;
    const host = tick % HOSTS;
    const units = this.random.between(1, 20);
    const ts = START_MS + tick * TICK_MS;
    const accept = this.ledger.sent({ host, boot: 1, tick, firstUnit: 0, units }, ts);
    return encodeBatch(knownBatch(host, 1, tick, units, ts, 1_000, false)).map(({ payload }) => ({
      subject: this.link.subjects.samples(0, hostName(host)),
      headers,
      data: payload,
      onStored: (seq) => {
        accept(seq);
        this.lastSeq = Math.max(this.lastSeq, seq);
      },
    }));
  }

  /** Until the server has it: a full stream is the store's way of asking for time. */
  private async deliver({ subject, headers, data, onStored }: Outgoing): Promise<void> {
    for (;;) {
      const reply = await this.raw.request(subject, headers, data, ANSWER_MS_MAX);
      const { seq, error } = JSON.parse(reply.data.toString()) as { seq?: number; error?: { err_code?: number; description: string } };
      if (error === undefined && seq !== undefined) return onStored?.(seq);
      if (!FULL.has(error?.err_code ?? 0)) throw new Error(`${subject}: the server says ${error?.description}`);
      await delay(50);
    }
  }

  private async ask({ service, name, headers, payload, isBad }: StrangeQuery): Promise<void> {
    this.queries++;
    const subject = `${this.link.subjects[service](0)}.${name}`;
    const said = await this.raw.request(subject, headers, payload, ANSWER_MS_MAX).then(
      (reply) => /^Nats-Service-Error-Code: *(\d+)/im.exec(reply.headers)?.[1] ?? 'an answer',
      (error: Error) => error.message,
    );
    const isRight = isBad ? /^4\d\d$/.test(said) : /^4\d\d$|^an answer$/.test(said);
    if (!isRight) this.problems.push(`${subject} ${Buffer.from(payload).toString().slice(0, 200)}: ${said}`);
  }

  /** Until everything has been read and is where it belongs. @returns the floor then */
  private async settle(): Promise<number> {
    this.options.onProgress?.('settling', 0, 1);
    let floor = 0;
    const isSettled = await until(SETTLE_MS_MAX, async () => {
      const [store, spill] = [await this.client.storeInfo(0), await this.client.spilloverInfo(0)];
      floor = store.floor;
      const isAllCounted =
        store.counters['rejected_messages'] === total(this.sent.store) &&
        spill.counters['rejected_messages'] === total(this.sent.spillover);
      const isAllPublished =
        total(this.published.store) === total(this.sent.store) && total(this.published.spillover) === total(this.sent.spillover);
      const isRead = store.lag === 0 && store.head > this.lastSeq && spill.lag === 0 && (spill.position?.seq ?? 0) >= floor;
      return isRead && isAllCounted && isAllPublished;
    });
    if (!isSettled) this.problems.push(`did not settle within ${SETTLE_MS_MAX / 1_000} s`);
    return floor;
  }

  private async countedBy(service: 'store' | 'spillover'): Promise<Map<string, number>> {
    const { counters, health } = service === 'store' ? await this.client.storeInfo(0) : await this.client.spilloverInfo(0);
    for (const problem of health.problems) this.problems.push(`${service}: ${problem}`);
    for (const name of ['dropped_rows', 'missing_positions', 'holes', 'older_log_rows', 'duplicate_rows', 'quarantined_files'])
      if ((counters[name] ?? 0) > 0) this.problems.push(`${service}: ${name} ${counters[name]}`);
    const reasons = Object.entries(counters).flatMap(([name, times]) =>
      /^rejected_(?!messages$)/.test(name) ? [[name.slice('rejected_'.length), times] as const] : [],
    );
    return new Map(reasons);
  }

  private compare(counted: { readonly [service in 'store' | 'spillover']: ReadonlyMap<string, number> }): void {
    for (const service of ['store', 'spillover'] as const) {
      const [sent, published] = [this.sent[service], this.published[service]];
      for (const reason of new Set([...sent.keys(), ...counted[service].keys(), ...published.keys()])) {
        const numbers = [sent, counted[service], published].map((one) => one.get(reason) ?? 0);
        if (new Set(numbers).size > 1)
          this.problems.push(`${service}: ${reason}: ${numbers[0]} sent, ${numbers[1]} counted, ${numbers[2]} published`);
      }
    }
  }

  private async judgeRange(): Promise<Verdict> {
    const check = this.ledger.check();
    for (let tick = 0; tick < this.tick; tick += SLICE_TICKS) {
      const fromMs = START_MS + tick * TICK_MS;
      const { samples } = await this.client.range({ fromMs, toMs: fromMs + SLICE_TICKS * TICK_MS - 1 });
      for (const sample of samples) check.row(seenRow(sample));
      this.options.onProgress?.('reading the range', Math.min(tick + SLICE_TICKS, this.tick), this.tick);
    }
    // Nothing was sent of the time before and after.
    for (const span of [
      { fromMs: 0, toMs: START_MS - 1 },
      { fromMs: START_MS + this.tick * TICK_MS, toMs: 8.64e15 },
    ])
      for (const sample of (await this.client.range(span)).samples) check.row(seenRow(sample));
    return check.verdict();
  }

  private async judgeFiles(floor: number): Promise<Verdict> {
    const check = this.ledger.check(0, floor);
    const read = await readSegmentFiles(join(this.directory, 'spill', '0'), (row) => check.row(row));
    this.problems.push(...read.problems.slice(0, 10));
    return check.verdict();
  }
}

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

const total = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((sum, count) => sum + count, 0);
