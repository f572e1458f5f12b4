// One round: the real processes, the load, the faults one after another, then calm, then the judgement.
//
// Everything lives in one directory and on loopback; processes are ended by their pids; faults, load and waiting are bounded. What was
// accepted is judged three times: by one range over window and spill as a user asks for it; by the segment files alone, which must hold exactly the
// positions below the floor; and by what the services say of themselves (nothing dropped, no hole, nothing quarantined).

import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SpillwayClient } from '#client/client';
import type { SpilloverInfo, StoreInfo } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import { type Config, loadConfig } from '#shared/runtime/config';
import { createLogger } from '#shared/runtime/logging';
import { type Check, isClean, Ledger, type SeenRow, type Verdict } from './checker.ts';
import { type Fault, faultsOf, type ProcessName, type Target, type World } from './faults.ts';
import { HOSTS, Load } from './load.ts';
import { LossyLink } from './lossy-link.ts';
import { ManagedProcess } from './managed-process.ts';
import { Random } from './random.ts';
import { RecoveryWatch } from './recovery-watch.ts';
import { type FilesRead, readSegmentFiles } from './segment-files.ts';
import { SpillDisk } from './spill-disk.ts';

export interface RoundOptions {
  /** Where the built program lies: `<root>/dist/cli/main.js`. */
  readonly root: string;
  readonly natsServer: string;
  readonly seed: number;
  readonly faults: number;
  /** No fault begins after this time. */
  readonly minutesMax: number;
  /** Instead of the spillover a naive one, which must be convicted. */
  readonly isControl?: boolean;
  /** Accepted batches are sent again under their ids seconds later, as after an outage in which the acknowledgement was lost. */
  readonly hasLateRetries?: boolean;
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
  /** Logs and data, kept when something was wrong; null when it was removed. */
  readonly directory: string | null;
}

const SPILL_DISK_BYTES = 2 * 1024 ** 3;
const MEMORY_BYTES = 1_536 * 1024;
const STREAM_BYTES = 8 * 1024 * 1024;
/** The control has fewer series; it must evict as often. */
const CONTROL_MEMORY_BYTES = 128 * 1024;
const CONTROL_STREAM_BYTES = 512 * 1024 * 1024;
const CONCURRENT_MAX = 3;
const WARM_UP_MS = 2_000;
const SETTLE_MS_MAX = 120_000;
/** Longer than the control's acknowledgements are waited for. */
const CONTROL_SETTLE_MS = 12_000;
const SLICE_MS = 4_000;

/** @throws when the processes could not be started at all */
export async function runRound(options: RoundOptions): Promise<RoundReport> {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-chaos-'));
  const round = new Round(options, directory);
  try {
    const report = await round.run();
    if (!report.isClean) round.keepData();
    return report;
  } finally {
    await round.end();
  }
}

class Round {
  private readonly options: RoundOptions;
  private readonly directory: string;
  private readonly ends: (() => unknown)[] = [];
  private readonly ledger = new Ledger();
  private readonly applied = new Map<string, number>();
  private readonly problems: string[] = [];
  private world!: World;
  private client!: SpillwayClient;
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
    return {
      seed: this.options.seed,
      seconds: (Date.now() - this.startedMs) / 1_000,
      faults: this.applied,
      skipped: this.disk.reason === null ? new Map() : new Map([['full disk', this.disk.reason]]),
      duplicates: load.sentBesides.duplicates,
      malformed: load.sentBesides.malformed,
      duplicateAcks: load.duplicateAcks,
      unexpectedExits: Object.values(this.world.processes).reduce((sum, one) => sum + one.unexpectedExits, 0),
      slowestRecovery: watch.slowest,
      range,
      files,
      filesRead: read,
      problems: this.problems,
      isClean: isClean(range) && (files === null || isClean(files)) && this.problems.length === 0,
      directory: this.isKeptAfter(range, files) ? this.directory : null,
    };
  }

  /** What a tmpfs holds goes with it, so it is copied. */
  keepData(): void {
    this.isKept = true;
    cpSync(join(this.directory, 'spill'), join(this.directory, 'spill-kept'), { recursive: true });
  }

  async end(): Promise<void> {
    for (const end of this.ends.splice(0).reverse()) await Promise.resolve(end()).catch(() => undefined);
    process.off('exit', this.endAtOnce);
    if (!this.isKept) rmSync(this.directory, { recursive: true, force: true });
  }

  private readonly endAtOnce = (): void => {
    for (const { pid } of Object.values(this.world?.processes ?? {})) if (pid !== null) process.kill(pid, 'SIGKILL');
    this.disk?.close();
  };

  private isKeptAfter(range: Verdict, files: Verdict | null): boolean {
    return !isClean(range) || (files !== null && !isClean(files)) || this.problems.length > 0;
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
      this.ends.push(() => {
        one.thaw();
        return one.kill();
      });
      return one;
    };
    const service = (name: 'store' | 'spillover'): ManagedProcess => {
      const program = join(options.root, 'dist', 'cli', 'main.js');
      const naive = join(options.root, 'dist', 'test', 'chaos', 'naive-spillover.js');
      const isNaive = options.isControl === true && name === 'spillover';
      return process_(name, process.execPath, isNaive ? [naive] : [program, name], this.environment(links[name].port, isNaive));
    };
    const natsArgs = ['-a', '127.0.0.1', '-p', `${port}`, '-js', '-sd', join(directory, 'nats')];
    const processes = { nats: process_('nats', options.natsServer, natsArgs), store: service('store'), spillover: service('spillover') };
    processes.nats.start();
    const observer = await this.connect(port);
    await ensureShard(observer.jsm, observer.subjects, this.config(port).nats, 0);
    this.client = new SpillwayClient(observer, { timeoutMs: 3_000 });
    this.load = new Load(
      this.ledger,
      await this.connect(links.collectors.port),
      await this.connect(port),
      options.isControl ? HOSTS.slice(0, 4) : HOSTS,
    );
    this.ends.push(() => this.load.stop());
    this.world = { processes, links, disk: this.disk, load: this.load };
    processes.store.start();
    processes.spillover.start();
    this.watch = new RecoveryWatch(
      new SpillwayClient(observer, { timeoutMs: 400 }),
      options.isControl ? ['store'] : ['store', 'spillover'],
    );
    this.ends.push(() => this.watch.stop());
    if (!(await this.untilReady(SETTLE_MS_MAX))) throw new Error(`the services were not ready in time; their logs are in ${logs}`);
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
      SPILLWAY_SPILLOVER_SEGMENT_BYTES: '2000000',
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
    const { options, world } = this;
    const deadlineMs = Date.now() + options.minutesMax * 60_000;
    const running = new Map<Target, Promise<unknown>>();
    const only: readonly Target[] = ['nats', 'spillover'];
    const faults = faultsOf(new Random(options.seed), {
      hasFullDisk: this.disk.reason === null,
      hasLateRetries: options.hasLateRetries ?? false,
      ...(options.isControl ? { only } : {}),
    });
    for (let i = 0; i < options.faults && Date.now() < deadlineMs && !options.stopping?.aborted; i++) {
      const fault: Fault = faults.next().value;
      while (running.has(fault.target) || running.size >= CONCURRENT_MAX) await Promise.race(running.values());
      const applied = this.apply(fault, world).finally(() => running.delete(fault.target));
      running.set(fault.target, applied);
      options.onProgress?.('faults', i + 1, options.faults);
      await delay(fault.gapMs);
    }
    await Promise.all(running.values());
  }

  private async apply(fault: Fault, world: World): Promise<void> {
    this.watch.begin(fault.target);
    if (await fault.run(world)) this.applied.set(fault.kind, (this.applied.get(fault.kind) ?? 0) + 1);
    this.watch.end(fault.target);
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
    const isSettled = await until(SETTLE_MS_MAX, async () => {
      options.onProgress?.('settling', 0, 1);
      const store = await this.client.storeInfo(0);
      const spill = options.isControl ? null : await this.client.spilloverInfo(0);
      said = stateOf(store, spill);
      const isStoreDone = store.health.ready && store.lag === 0 && store.head > load.lastSeq;
      return isStoreDone && (spill === null || (spill.health.ready && spill.lag === 0 && (spill.position?.seq ?? 0) >= store.floor));
    });
    if (!isSettled) this.problems.push(`did not settle: ${said || 'no answer'}`);
    if (options.isControl) await delay(CONTROL_SETTLE_MS);
    return isSettled;
  }

  private async judgeRange(): Promise<Verdict> {
    const check = this.ledger.check();
    const { firstTs, lastTs } = this.load;
    const slices = Math.ceil((lastTs + 1 - firstTs) / SLICE_MS);
    try {
      // Nothing was sent of the time before and after.
      await this.readRange(check, 0, firstTs - 1);
      await this.readRange(check, lastTs + 1, 8.64e15);
      for (let slice = 0; slice < slices; slice++) {
        const fromMs = firstTs + slice * SLICE_MS;
        await this.readRange(check, fromMs, Math.min(lastTs, fromMs + SLICE_MS - 1));
        this.options.onProgress?.('reading the range', slice + 1, slices);
      }
    } catch (error) {
      this.problems.push(`the range could not be read: ${error instanceof Error ? error.message : String(error)}`);
    }
    // Without a spillover to ask, the files are the other half of the range.
    if (this.options.isControl) await readSegmentFiles(join(this.disk.path, '0'), (row) => check.row(row));
    return check.verdict();
  }

  private async readRange(check: Check, fromMs: number, toMs: number): Promise<void> {
    const { samples, coverage } = await this.client.range({ fromMs, toMs });
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

function seenRow({ host, unit, ts, seq, state, pid, started, ...metrics }: Sample): SeenRow {
  return { host, unit, ts, seq: seq ?? -1, state, pid, started, metrics };
}

/** True as soon as the condition holds; a question that is not answered is asked again. */
async function until(withinMs: number, condition: () => Promise<boolean>): Promise<boolean> {
  const deadlineMs = Date.now() + withinMs;
  for (;;) {
    if (await condition().catch(() => false)) return true;
    if (Date.now() >= deadlineMs) return false;
    await delay(100);
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => (typeof address === 'object' && address !== null ? resolve(address.port) : reject(new Error('no free port'))));
    });
  });
}
