// One round: the real processes, the load, the faults one after another, then calm, then the judgement.
//
// Everything lives in one directory and on loopback; processes are ended by their pids; faults, load and waiting are bounded. What was
// accepted is judged three times: by one range over window and spill as a user asks for it; by the segment files alone, which must hold exactly the
// positions below the floor; and by what the services say of themselves (nothing dropped, no hole, nothing quarantined).

import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { SpillwayClient } from '#client/client';
import type { SpilloverInfo, StoreInfo } from '#shared/contract/queries';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import { type Config, loadConfig } from '#shared/runtime/config';
import { freePort } from '#shared/runtime/free-port';
import { createLogger } from '#shared/runtime/logging';
import { serviceArgs } from '../support/service-args.ts';
import { type Check, isClean, Ledger, seenRow, type Verdict } from './checker.ts';
import { DiskOrder } from './disk-order.ts';
import { controlFaultsOf, type Fault, faultsOf, type ProcessName, type Target, type World, WrongReactionError } from './faults.ts';
import { HOSTS, Load } from './load.ts';
import { LossyLink } from './lossy-link.ts';
import { ManagedProcess } from './managed-process.ts';
import { Random } from './random.ts';
import { RecoveryWatch } from './recovery-watch.ts';
import { type FilesRead, readSegmentFiles } from './segment-files.ts';
import { SpillDisk } from './spill-disk.ts';
import { until } from './until.ts';

export interface RoundOptions {
  /** Where the built program lies: `<root>/dist/cli/main.js`. */
  readonly root: string;
  /** Where this harness lies compiled: what runs in a process of its own is started from there. */
  readonly compiled: string;
  readonly natsServer: string;
  readonly seed: number;
  readonly faults: number;
  /** No fault begins after this time. */
  readonly minutesMax: number;
  /** Instead of the spillover a naive one, which must be convicted. */
  readonly isControl?: boolean;
  /** Accepted batches are sent again under their ids seconds later, as after an outage in which the acknowledgement was lost. */
  readonly hasLateRetries?: boolean;
  /** Logs and data are kept although nothing was wrong. */
  readonly isKeptAnyway?: boolean;
  readonly onProgress?: (phase: string, done: number, total: number) => void;
  /** Ends the faults early; the judgement still follows. */
  readonly stopping?: AbortSignal;
}

export interface RoundReport {
  readonly seed: number;
  readonly seconds: number;
  readonly faults: ReadonlyMap<string, number>;
  readonly skipped: ReadonlyMap<string, string>;
  readonly duplicates: number;
  readonly retries: number;
  readonly malformed: number;
  readonly duplicateAcks: number;
  readonly unexpectedExits: number;
  readonly slowestRecovery: { readonly service: string; readonly ms: number } | null;
  /** One range over window and spill. */
  readonly range: Verdict;
  /** The segment files alone; null for the control, which is judged with files and window together. */
  readonly files: Verdict | null;
  readonly filesRead: FilesRead;
  /** Anything else that must not be: services that did not settle, counted drops, holes. */
  readonly problems: readonly string[];
  readonly isClean: boolean;
  /** Logs and data, kept when it did not come out as it must; null when it was removed. */
  readonly directory: string | null;
}

const SPILL_DISK_BYTES = 2 * 1024 ** 3;
/** Two or three events: rotation is where an append is most delicate. */
const SEGMENT_BYTES = 500_000;
const MEMORY_BYTES = 1024 * 1024;
const STREAM_BYTES = 4 * 1024 * 1024;
/** The control has fewer series; it must evict as often. */
const CONTROL_MEMORY_BYTES = 128 * 1024;
const CONTROL_STREAM_BYTES = 512 * 1024 * 1024;
const CONCURRENT_MAX = 3;
/** Of the faults drawn next, the first whose target is whole is begun: one that is busy for long holds up no other. */
const AHEAD_MAX = 6;
const SLOW_RECOVERY_MS = 5_000;
const ANSWER_MS_MAX = 60_000;
const WARM_UP_MS = 2_000;
const SETTLE_MS_MAX = 120_000;
/** A log that is nearly full is eased in the store's upkeep: the floor is only believed when it has stood still for several of them. */
const QUIET_MS = 4_000;
/** Longer than the control's acknowledgements are waited for. */
const CONTROL_SETTLE_MS = 12_000;
/** Read in one range: a few tens of MB. */
const RANGE_ROWS = 50_000;
/** Where the floor stands, and a spill without files ends, as long as nothing was evicted. */
const FIRST_SEQ = 1;

/** @throws when the processes could not be started at all */
export async function runRound(options: RoundOptions): Promise<RoundReport> {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-chaos-'));
  const round = new Round(options, directory);
  try {
    return await round.run();
  } catch (error) {
    round.keepData();
    throw new Error(`${error instanceof Error ? error.message : String(error)}; logs and data are in ${directory}`, { cause: error });
  } finally {
    await round.end();
  }
}

class Round {
  private readonly options: RoundOptions;
  private readonly directory: string;
  private readonly ends: (() => unknown)[] = [];
  private readonly processes: ManagedProcess[] = [];
  private readonly ledger = new Ledger();
  private readonly applied = new Map<string, number>();
  private readonly problems: string[] = [];
  private world!: World;
  private client!: SpillwayClient;
  /** Waits longer: what it asks for has to be read from many files, on a machine that may be busy with other things. */
  private judge!: SpillwayClient;
  private watch!: RecoveryWatch;
  private load!: Load;
  private disk!: SpillDisk;
  private isKept = false;
  private readonly startedMs = Date.now();

  constructor(options: RoundOptions, directory: string) {
    this.options = options;
    this.directory = directory;
    process.once('exit', this.endAtOnce);
  }

  async run(): Promise<RoundReport> {
    await this.start();
    await this.injectFaults();
    const isSettled = await this.settle();
    const floor = isSettled ? (await this.client.storeInfo(0)).floor : 0;
    const range = await this.judgeRange();
    const { files, read } = await this.judgeFiles(floor);
    if (isSettled) await this.judgeServices(floor);
    for (const problem of read.problems.slice(0, 10)) this.problems.push(problem);
    const { watch, load } = this;
    const isWhole = isClean(range) && (files === null || isClean(files)) && this.problems.length === 0;
    const isWanted = isWhole !== (this.options.isControl ?? false);
    if (!isWanted || this.options.isKeptAnyway) this.keepData();
    return {
      seed: this.options.seed,
      seconds: (Date.now() - this.startedMs) / 1_000,
      faults: this.applied,
      skipped: this.disk.reason === null ? new Map() : new Map([['full disk', this.disk.reason]]),
      duplicates: load.sentBesides.duplicates,
      retries: load.sentBesides.retries,
      malformed: load.sentBesides.malformed,
      duplicateAcks: load.duplicateAcks,
      unexpectedExits: this.processes.reduce((sum, one) => sum + one.unexpectedExits, 0),
      slowestRecovery: watch.slowest,
      range,
      files,
      filesRead: read,
      problems: this.problems,
      isClean: isWhole,
      directory: this.isKept ? this.directory : null,
    };
  }

  /** What a tmpfs holds goes with it, so it is copied. */
  keepData(): void {
    this.isKept = true;
    const spill = join(this.directory, 'spill');
    if (existsSync(spill)) cpSync(spill, join(this.directory, 'spill-kept'), { recursive: true });
  }

  async end(): Promise<void> {
    for (const end of this.ends.splice(0).reverse()) await Promise.resolve(end()).catch(() => undefined);
    process.off('exit', this.endAtOnce);
    if (!this.isKept) rmSync(this.directory, { recursive: true, force: true });
  }

  private readonly endAtOnce = (): void => {
    for (const { pid } of this.processes) if (pid !== null) process.kill(pid, 'SIGKILL');
    this.disk?.close();
    if (!this.isKept) rmSync(this.directory, { recursive: true, force: true });
  };

  /** What was done when, beside the logs of the processes. */
  private note(line: string): void {
    appendFileSync(join(this.directory, 'logs', 'faults.log'), `${new Date().toISOString()} ${line}\n`);
  }

  private async start(): Promise<void> {
    const { options, directory } = this;
    const logs = join(directory, 'logs');
    mkdirSync(logs);
    this.disk = SpillDisk.open(join(directory, 'spill'), SPILL_DISK_BYTES);
    this.ends.push(() => this.disk.close());
    mkdirSync(join(this.disk.path, '0'));
    const port = await freePort();
    const links = { store: await LossyLink.open(port), spillover: await LossyLink.open(port), collectors: await LossyLink.open(port) };
    for (const link of Object.values(links)) this.ends.push(() => link.close());
    const diskOrder = new DiskOrder(join(directory, 'disk-order.json'));
    const process_ = (name: ProcessName, program: string, args: string[], env: Record<string, string> = {}): ManagedProcess => {
      const others = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('SPILLWAY_')));
      const one = new ManagedProcess({
        name,
        program,
        args,
        env: { ...others, ...env },
        cwd: directory,
        logFile: join(logs, `${name}.log`),
      });
      this.processes.push(one);
      this.ends.push(() => {
        one.thaw();
        return one.kill();
      });
      return one;
    };
    const service = (name: 'store' | 'spillover'): ManagedProcess => {
      const program = serviceArgs(options.root, name);
      if (name === 'store') return process_(name, process.execPath, program, this.environment(links.store.port));
      if (options.isControl) {
        const naive = join(options.compiled, 'naive-spillover.js');
        return process_(name, process.execPath, [naive], this.environment(links.spillover.port, true));
      }
      const failingDisk = pathToFileURL(join(options.compiled, 'failing-disk.js')).href;
      const env = { ...this.environment(links.spillover.port), FAILING_DISK_ORDER: diskOrder.path };
      return process_(name, process.execPath, ['--import', failingDisk, ...program], env);
    };
    const natsArgs = ['-a', '127.0.0.1', '-p', `${port}`, '-js', '-sd', join(directory, 'nats')];
    const processes = { nats: process_('nats', options.natsServer, natsArgs), store: service('store'), spillover: service('spillover') };
    processes.nats.start();
    const observer = await this.connect(port);
    await ensureShard(observer.jsm, observer.subjects, this.config(port).nats, 0);
    this.client = new SpillwayClient(observer, { timeoutMs: 3_000 });
    this.judge = new SpillwayClient(observer, { timeoutMs: ANSWER_MS_MAX });
    this.load = new Load(
      this.ledger,
      await this.connect(links.collectors.port),
      await this.connect(port),
      () => processes.nats.starts,
      options.isControl ? HOSTS.slice(0, 4) : HOSTS,
    );
    this.ends.push(() => this.load.stop());
    this.world = { processes, links, disk: this.disk, diskOrder, load: this.load };
    processes.store.start();
    processes.spillover.start();
    this.watch = new RecoveryWatch(
      new SpillwayClient(observer, { timeoutMs: 400 }),
      options.isControl ? ['store'] : ['store', 'spillover'],
      (service, ms, before) => {
        if (ms >= SLOW_RECOVERY_MS) this.note(`${service}: ready again after ${(ms / 1_000).toFixed(1)} s; last answer before: ${before}`);
      },
    );
    this.ends.push(() => this.watch.stop());
    if (!(await this.untilReady(SETTLE_MS_MAX))) throw new Error(`the services were not ready within ${SETTLE_MS_MAX / 1_000} s`);
    this.load.start();
    await delay(WARM_UP_MS);
  }

  private environment(port: number, isNaive = false): Record<string, string> {
    const streamBytes = this.options.isControl ? CONTROL_STREAM_BYTES : STREAM_BYTES;
    return {
      SPILLWAY_NATS_SERVERS: `nats://127.0.0.1:${port}`,
      SPILLWAY_HOST: 'chaos',
      SPILLWAY_MAX_MEMORY_BYTES: `${this.options.isControl ? CONTROL_MEMORY_BYTES : MEMORY_BYTES}`,
      SPILLWAY_SAMPLES_MAX_BYTES: `${streamBytes}`,
      SPILLWAY_EVICTED_MAX_BYTES: `${streamBytes}`,
      SPILLWAY_SPILLOVER_PATH: isNaive ? join(this.directory, 'spill', '0') : join(this.directory, 'spill'),
      SPILLWAY_SPILLOVER_SEGMENT_BYTES: `${SEGMENT_BYTES}`,
      SPILLWAY_SPILLOVER_MAX_BYTES: `${SPILL_DISK_BYTES}`,
    };
  }

  private config(port: number): Config {
    return loadConfig({ env: this.environment(port), cwd: this.directory });
  }

  private async connect(port: number): Promise<NatsLink> {
    const link = await connectNats(this.config(port).nats, {
      name: 'chaos',
      logger: createLogger('chaos', 'silent'),
      signal: new AbortController().signal,
      giveUpAfterMs: 15_000,
    });
    this.ends.push(() => link.close());
    return link;
  }

  private async injectFaults(): Promise<void> {
    const { options } = this;
    const deadlineMs = Date.now() + options.minutesMax * 60_000;
    const running = new Map<Target, Promise<unknown>>();
    const random = new Random(options.seed);
    const faults = options.isControl
      ? controlFaultsOf(random)
      : faultsOf(random, { hasFullDisk: this.disk.reason === null, hasLateRetries: options.hasLateRetries ?? false });
    const ahead: Fault[] = [];
    while (Date.now() < deadlineMs && !options.stopping?.aborted) {
      // Those under way may turn out not to be possible: then others take their place.
      const isEnough = this.injected + running.size >= options.faults;
      if (isEnough && running.size === 0) break;
      while (ahead.length < AHEAD_MAX) ahead.push(faults.next().value);
      const at = isEnough || running.size >= CONCURRENT_MAX ? -1 : ahead.findIndex(({ target }) => !running.has(target));
      if (at === -1) {
        await Promise.race(running.values());
        continue;
      }
      const [fault] = ahead.splice(at, 1) as [Fault];
      running.set(
        fault.target,
        this.apply(fault).finally(() => running.delete(fault.target)),
      );
      options.onProgress?.('faults', this.injected, options.faults);
      await delay(fault.gapMs);
    }
    await Promise.all(running.values());
  }

  private get injected(): number {
    return [...this.applied.values()].reduce((sum, count) => sum + count, 0);
  }

  private async apply(fault: Fault): Promise<void> {
    const { kind, target } = fault;
    this.watch.begin(target);
    this.note(`begin ${kind}`);
    try {
      const isDone = await fault.run(this.world);
      if (isDone) this.applied.set(kind, (this.applied.get(kind) ?? 0) + 1);
      this.note(`${isDone ? 'end' : 'not possible:'} ${kind}`);
    } catch (error) {
      if (!(error instanceof WrongReactionError)) throw error;
      this.note(error.message);
      this.problems.push(error.message);
    }
    this.watch.end(target);
  }

  private async untilReady(withinMs: number): Promise<boolean> {
    const wanted = this.options.isControl ? 1 : 2;
    return until(withinMs, async () => {
      const stores = await this.client.storeInfo(0);
      const spill = wanted === 2 ? await this.client.spilloverInfo(0) : null;
      return stores.health.ready && (spill === null || spill.health.ready);
    });
  }

  /** No faults, no new ticks; everything that is held anywhere gets to where it belongs. */
  private async settle(): Promise<boolean> {
    const { load, options } = this;
    load.stopTicking();
    const isDrained = await until(SETTLE_MS_MAX, async () => {
      options.onProgress?.('publishing what waits', 0, load.waiting);
      return load.waiting === 0;
    });
    if (!isDrained) this.problems.push(`did not settle: ${load.waiting} batches were not accepted within ${SETTLE_MS_MAX / 1_000} s`);
    let said = '';
    let floor = { seq: -1, sinceMs: 0 };
    const isSettled = await until(SETTLE_MS_MAX, async () => {
      options.onProgress?.('settling', 0, 1);
      const store = await this.client.storeInfo(0);
      const spill = options.isControl ? null : await this.client.spilloverInfo(0);
      said = stateOf(store, spill);
      if (store.floor !== floor.seq) floor = { seq: store.floor, sinceMs: Date.now() };
      const isStoreDone = store.health.ready && store.lag === 0 && store.head > load.lastSeq;
      if (Date.now() - floor.sinceMs < QUIET_MS) return false;
      return (
        isStoreDone && (spill === null || (spill.health.ready && spill.lag === 0 && (spill.position?.seq ?? FIRST_SEQ) >= store.floor))
      );
    });
    if (!isSettled) this.problems.push(`did not settle: ${said || 'no answer'}`);
    if (options.isControl) await delay(CONTROL_SETTLE_MS);
    return isSettled;
  }

  private async judgeRange(): Promise<Verdict> {
    const check = this.ledger.check();
    const spans = this.ledger.spans(RANGE_ROWS);
    try {
      for (const [i, { fromMs, toMs }] of spans.entries()) {
        await this.readRange(check, fromMs, toMs);
        this.options.onProgress?.('reading the range', i + 1, spans.length);
      }
    } catch (error) {
      this.problems.push(`the range could not be read: ${error instanceof Error ? error.message : String(error)}`);
    }
    // Without a spillover to ask, the files are the other half of the range.
    if (this.options.isControl) await readSegmentFiles(join(this.disk.path, '0'), (row) => check.row(row));
    return check.verdict();
  }

  private async readRange(check: Check, fromMs: number, toMs: number): Promise<void> {
    const { samples, coverage } = await this.judge.range({ fromMs, toMs });
    for (const sample of samples) check.row(seenRow(sample));
    if (this.options.isControl) return;
    for (const { source } of coverage) if (source === 'gap' || source === 'transit') this.problems.push(`coverage says ${source}`);
  }

  private async judgeFiles(floor: number): Promise<{ files: Verdict | null; read: FilesRead }> {
    const check = this.ledger.check(0, floor);
    let rows = 0;
    const read = await readSegmentFiles(join(this.disk.path, '0'), (row) => {
      check.row(row);
      if (++rows % 10_000 === 0) this.options.onProgress?.('reading the files', rows, this.load.acceptedRows);
    });
    return { files: this.options.isControl ? null : check.verdict(), read };
  }

  private async judgeServices(floor: number): Promise<void> {
    const store = await this.client.storeInfo(0);
    if (store.floor !== floor) this.problems.push(`the floor moved while the spill was read: from ${floor} to ${store.floor}`);
    if (this.options.isControl) return;
    const spill = await this.client.spilloverInfo(0);
    for (const problem of [...store.health.problems, ...spill.health.problems]) this.problems.push(`health: ${problem}`);
    for (const name of ['dropped_rows', 'missing_positions']) {
      if ((store.counters[name] ?? 0) > 0) this.problems.push(`store: ${name} ${store.counters[name]}`);
    }
    for (const name of ['holes', 'older_log_rows', 'rejected_messages']) {
      if ((spill.counters[name] ?? 0) > 0) this.problems.push(`spillover: ${name} ${spill.counters[name]}`);
    }
    const quarantined = readdirSync(join(this.disk.path, '0')).includes('quarantine');
    if (quarantined) this.problems.push('spillover: there is a quarantine');
  }
}

function stateOf(store: StoreInfo, spill: SpilloverInfo | null): string {
  const { floor, head, lag, health } = store;
  const said = spill === null ? null : { position: spill.position, lag: spill.lag, health: spill.health };
  return JSON.stringify({ store: { floor, head, lag, health }, spillover: said });
}
