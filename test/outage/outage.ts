// One outage: real collectors, one for each host, and a store, around a nats-server that is killed and comes back. Judged by what
// the stream has: every tick of every collector once, the fresh before the backlog; and by what the store answers two seconds
// after the return. A spool is needed: the outbox holds a few ticks only.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SpillwayClient } from '#client/client';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import { type Config, loadConfig } from '#shared/runtime/config';
import { createLogger } from '#shared/runtime/logging';
import { ManagedProcess } from '../chaos/managed-process.ts';
import { custodyOf, type StoredBatch, storedBatches } from '../support/collected.ts';
import { eventually } from '../support/eventually.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { residentBytes } from '../support/resident-memory.ts';
import { serviceArgs } from '../support/service-args.ts';

export interface OutageOptions {
  /** Where the built program lies: `<root>/dist/cli/main.js`. */
  readonly root: string;
  readonly seconds: number;
  /** Collectors, each with a host of its own. */
  readonly hosts: number;
  /** Of each host. */
  readonly units: number;
}

export interface HostReport {
  readonly host: string;
  readonly rows: number;
  readonly lostRows: number;
  readonly doubledRows: number;
  readonly lateBatches: number;
  /** Late batches that the stream has behind a fresh one. */
  readonly overtaken: number;
  /** From the return of the server to the first batch stored, ms. */
  readonly firstMs: number;
  /** Age of the newest row of the store, asked two seconds after the return, ms. */
  readonly ageMs: number;
  /** From the return of the server until only what is fresh was held, ms. */
  readonly drainedMs: number;
  /** On disk when the server came back. */
  readonly spoolBytes: number;
  readonly rssBytesBefore: number;
  readonly rssBytesMost: number;
}

export interface OutageReport {
  readonly hosts: readonly HostReport[];
  /** What must not be, as sentences. */
  readonly problems: readonly string[];
  /** Logs and data, kept when something was wrong; null when it was removed. */
  readonly directory: string | null;
}

export const AGE_MS_MAX = 2_000;
export const OUTBOX_BYTES = 512 * 1024;
/** The outbox, and 32 MiB for a heap that breathes. */
export const GROWTH_BYTES_MAX = OUTBOX_BYTES + 32 * 1024 * 1024;
const ASKED_AFTER_MS = 2_000;
const INTERVAL_MS = 1_000;
/** Long enough for the heap of a collector to have its usual size. */
const WARM_UP_TICKS = 15;
const READY_MS_MAX = 60_000;
const DRAIN_MS_MAX = 120_000;
const RSS_INTERVAL_MS = 250;

/** @throws when the processes could not be started or did not come back */
export async function runOutage(options: OutageOptions): Promise<OutageReport> {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-outage-'));
  const outage = new Outage(options, directory);
  let isKept = true;
  try {
    const { hosts, problems } = await outage.run();
    isKept = problems.length > 0;
    return { hosts, problems, directory: isKept ? directory : null };
  } catch (error) {
    throw new Error(`the outage could not be judged; logs are in ${directory}`, { cause: error });
  } finally {
    await outage.end();
    if (!isKept) rmSync(directory, { recursive: true, force: true });
  }
}

interface Collector {
  readonly host: string;
  readonly process: ManagedProcess;
  rssBytesBefore: number;
  rssBytesMost: number;
}

class Outage {
  private readonly options: OutageOptions;
  private readonly directory: string;
  private readonly ends: (() => unknown)[] = [];
  private readonly problems: string[] = [];
  private readonly processes: ManagedProcess[] = [];
  private server: TestServer | null = null;

  constructor(options: OutageOptions, directory: string) {
    this.options = options;
    this.directory = directory;
    process.once('exit', this.endAtOnce);
  }

  async run(): Promise<{ hosts: HostReport[]; problems: string[] }> {
    const server = await startNatsServer();
    this.server = server;
    this.ends.push(() => server.stop());
    const config = loadConfig({ env: this.environment(server.url), cwd: this.directory });
    const link = await this.connect(config);
    await ensureShard(link.jsm, link.subjects, config.nats, 0);
    const client = new SpillwayClient(link);
    const collectors = this.startServices(server.url);
    await eventually(() => this.assertSettled(client, collectors, WARM_UP_TICKS), { withinMs: READY_MS_MAX, everyMs: 200 });
    const watch = watchMemory(collectors);
    this.ends.push(() => clearInterval(watch));
    for (const one of collectors) one.rssBytesBefore = rssBytesOf(one.process);

    await server.kill();
    await delay(this.options.seconds * 1_000);
    const spoolBytes = new Map(collectors.map(({ host }) => [host, this.spoolBytesOf(host)]));
    const returnedMs = await restart(server);
    const [ages, drained] = await Promise.all([this.askAges(config, collectors, returnedMs), this.drain(client, collectors, returnedMs)]);
    clearInterval(watch);

    await Promise.all(collectors.map((one) => one.process.terminate()));
    const hosts: HostReport[] = [];
    for (const { host, rssBytesBefore, rssBytesMost } of collectors) {
      const batches = await storedBatches(link, host);
      const report: HostReport = {
        host,
        ...this.judge(batches, returnedMs),
        ageMs: ages.get(host) ?? Number.POSITIVE_INFINITY,
        drainedMs: drained.get(host) ?? Number.POSITIVE_INFINITY,
        spoolBytes: spoolBytes.get(host) ?? 0,
        rssBytesBefore,
        rssBytesMost,
      };
      this.complain(report);
      hosts.push(report);
    }
    for (const { process } of collectors) if (process.unexpectedExits > 0) this.problems.push(`${process.name} ended by itself`);
    return { hosts, problems: this.problems };
  }

  async end(): Promise<void> {
    for (const end of this.ends.splice(0).reverse()) await Promise.resolve(end()).catch(() => undefined);
    process.off('exit', this.endAtOnce);
  }

  private readonly endAtOnce = (): void => {
    for (const { pid } of this.processes) if (pid !== null) process.kill(pid, 'SIGKILL');
    void this.server?.stop();
  };

  private environment(url: string): Record<string, string> {
    return {
      SPILLWAY_NATS_SERVERS: url,
      SPILLWAY_SAMPLE_INTERVAL_SECS: `${INTERVAL_MS / 1_000}`,
      SPILLWAY_OUTBOX_MAX_BYTES: `${OUTBOX_BYTES}`,
      SPILLWAY_SPOOL_PATH: join(this.directory, 'spool'),
      // The store evicts all the time. As there is no spillover, the log keeps every batch for the judgement.
      SPILLWAY_MAX_MEMORY_BYTES: `${4 * 1024 * 1024}`,
      SPILLWAY_SPILLOVER_PATH: join(this.directory, 'spill'),
      SPILLWAY_SAMPLES_MAX_BYTES: `${4 * 1024 ** 3}`,
      SPILLWAY_EVICTED_MAX_BYTES: `${4 * 1024 ** 3}`,
    };
  }

  private async connect(config: Config): Promise<NatsLink> {
    const link = await connectNats(config.nats, {
      name: 'outage',
      logger: createLogger('outage', 'silent'),
      signal: new AbortController().signal,
      giveUpAfterMs: 15_000,
    });
    this.ends.push(() => link.close());
    return link;
  }

  private startServices(url: string): Collector[] {
    const logs = join(this.directory, 'logs');
    mkdirSync(logs);
    const units = Array.from({ length: this.options.units }, (_, i) => `  unit-${i}: { self: true }\n`);
    writeFileSync(join(this.directory, 'spillway.yaml'), `units:\n${units.join('')}`);
    const others = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SPILLWAY_')));
    const startService = (name: string, service: string, env: Record<string, string> = {}): ManagedProcess => {
      const one = new ManagedProcess({
        name,
        program: process.execPath,
        args: serviceArgs(this.options.root, service),
        env: { ...others, ...this.environment(url), ...env },
        cwd: this.directory,
        logFile: join(logs, `${name}.log`),
      });
      this.processes.push(one);
      this.ends.push(() => one.kill());
      one.start();
      return one;
    };
    startService('store', 'store');
    return Array.from({ length: this.options.hosts }, (_, i) => {
      const host = `host-${i}`;
      const process = startService(`collector-${host}`, 'collector', { SPILLWAY_HOST: host });
      return { host, process, rssBytesBefore: 0, rssBytesMost: 0 };
    });
  }

  /** Only what is fresh is held, and every row is accounted for. @throws when that is not so */
  private async assertSettled(client: SpillwayClient, collectors: readonly { host: string }[], ticksMin: number): Promise<void> {
    for (const { host } of collectors) {
      const info = await client.collectorInfo(host);
      const { ticks = 0, outbox_rows = 0, spool_rows = 0 } = info.counters;
      const { taken, accountedFor } = custodyOf(info);
      if (!info.health.ready || ticks < ticksMin || spool_rows > 0 || outbox_rows > 2 * this.options.units || taken !== accountedFor)
        throw new Error(`${host} has not settled: ${JSON.stringify(info)}`);
    }
  }

  private spoolBytesOf(host: string): number {
    const spool = join(this.directory, 'spool', host);
    return readdirSync(spool).reduce((sum, name) => sum + (statSync(join(spool, name), { throwIfNoEntry: false })?.size ?? 0), 0);
  }

  /** By a connection of its own, so that it does not wait for a reconnection of ours. An answer that comes late is late data. */
  private async askAges(config: Config, collectors: readonly Collector[], returnedMs: number): Promise<Map<string, number>> {
    const client = new SpillwayClient(await this.connect(config), { timeoutMs: 1_000 });
    await delay(Math.max(0, returnedMs + ASKED_AFTER_MS - Date.now()));
    const ages = collectors.map(async ({ host }) => {
      const newest = await eventually(() => client.latest({ host, unit: 'unit-0' }, 1), { withinMs: READY_MS_MAX });
      return [host, Date.now() - (newest[0]?.ts ?? 0)] as const;
    });
    return new Map(await Promise.all(ages));
  }

  private async drain(client: SpillwayClient, collectors: readonly Collector[], returnedMs: number): Promise<Map<string, number>> {
    const drained = collectors.map(async (one) => {
      await eventually(() => this.assertSettled(client, [one], 0), { withinMs: DRAIN_MS_MAX, everyMs: 100 });
      return [one.host, Date.now() - returnedMs] as const;
    });
    return new Map(await Promise.all(drained));
  }

  private judge(batches: readonly StoredBatch[], returnedMs: number) {
    const { units } = this.options;
    const ticks = new Set(batches.map(({ batch }) => batch.tick));
    const rows = batches.reduce((sum, { batch }) => sum + batch.unit.length, 0);
    const firstFresh = batches.findIndex(({ batch, storedMs }) => !batch.late && storedMs >= returnedMs);
    const late = batches.filter(({ batch }) => batch.late);
    const firstStoredMs = batches.find(({ storedMs }) => storedMs >= returnedMs)?.storedMs ?? Number.POSITIVE_INFINITY;
    return {
      rows,
      lostRows: (Math.max(...ticks) - ticks.size) * units,
      doubledRows: (batches.length - ticks.size) * units,
      lateBatches: late.length,
      overtaken: firstFresh === -1 ? 0 : batches.slice(firstFresh).filter(({ batch }) => batch.late).length,
      firstMs: firstStoredMs - returnedMs,
    };
  }

  private complain(report: HostReport): void {
    const { host, lostRows, doubledRows, ageMs, lateBatches, rssBytesBefore, rssBytesMost, spoolBytes } = report;
    if (lostRows > 0) this.problems.push(`${host}: ${lostRows} rows lost`);
    if (doubledRows > 0) this.problems.push(`${host}: ${doubledRows} rows doubled`);
    if (ageMs > AGE_MS_MAX) this.problems.push(`${host}: the newest row was ${ageMs} ms old`);
    if (rssBytesMost - rssBytesBefore > GROWTH_BYTES_MAX)
      this.problems.push(`${host}: memory grew by ${rssBytesMost - rssBytesBefore} bytes`);
    if (spoolBytes === 0 || lateBatches < this.options.seconds - 2)
      this.problems.push(`${host}: too little waited, the spool was not needed`);
  }
}

/** @returns when it took connections again, wall clock */
async function restart(server: TestServer): Promise<number> {
  await server.start();
  return Date.now();
}

function watchMemory(collectors: readonly Collector[]): NodeJS.Timeout {
  return setInterval(() => {
    for (const one of collectors) one.rssBytesMost = Math.max(one.rssBytesMost, rssBytesOf(one.process));
  }, RSS_INTERVAL_MS);
}

/** 0 when it does not run. */
function rssBytesOf({ pid }: ManagedProcess): number {
  return pid === null ? 0 : residentBytes(pid);
}
