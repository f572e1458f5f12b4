// A whole Spillway for a benchmark: a nats-server and the built services as processes of their own, in a directory that is removed
// at the end, with a client beside them.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SpillwayClient } from '#client/client';
import { type Batch, encodeBatch } from '#shared/contract/batch';
import type { StoreInfo } from '#shared/contract/queries';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import { loadConfig } from '#shared/runtime/config';
import { createLogger } from '#shared/runtime/logging';
import { eventually } from '../test/support/eventually.ts';
import { startNatsServer, type TestServer } from '../test/support/nats-server.ts';
import { serviceArgs } from '../test/support/service-args.ts';
import { work } from './load.ts';
import { endWithUs, type Program, startProgram } from './processes.ts';
import type { Trace } from './trace.ts';

export type ServiceName = 'collector' | 'store' | 'spillover';

const READY_MS = 30_000;
const SETTLE_MS = 300_000;
const POLL_MS = 10;
/** Hides the round trip; more only makes acknowledgements later. */
const IN_FLIGHT_MAX = 64;
/** Between two looks at the window while it is filled. */
const FILL_ROWS = 50_000;
/** Both streams must take what a run sends while a service is behind. */
const STREAM_BYTES = 4 * 1024 ** 3;

export interface Payload {
  readonly host: string;
  readonly id: string;
  readonly bytes: Uint8Array;
  readonly rows: number;
}

export class Installation {
  readonly directory: string;
  readonly nats: TestServer;
  readonly link: NatsLink;
  readonly client: SpillwayClient;
  private readonly root: string;
  private readonly env: NodeJS.ProcessEnv;
  private readonly services = new Map<ServiceName, Program>();
  private readonly forget: () => void;

  private constructor(root: string, directory: string, nats: TestServer, link: NatsLink, env: NodeJS.ProcessEnv) {
    this.root = root;
    this.directory = directory;
    this.nats = nats;
    this.link = link;
    this.client = new SpillwayClient(link);
    this.env = env;
    this.forget = endWithUs(() => void nats.kill());
  }

  /** @param settings variables of the services beside the defaults */
  static async start(root: string, settings: Readonly<Record<string, string>> = {}): Promise<Installation> {
    const directory = mkdtempSync(join(tmpdir(), 'installation-'));
    const nats = await startNatsServer();
    const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SPILLWAY_')));
    const env = {
      ...own,
      SPILLWAY_NATS_SERVERS: nats.url,
      SPILLWAY_HOST: 'bench',
      SPILLWAY_SPILLOVER_PATH: join(directory, 'spill'),
      SPILLWAY_SPILLOVER_MAX_BYTES: `${STREAM_BYTES}`,
      SPILLWAY_SPILLOVER_SEGMENT_BYTES: `${16 * 1024 * 1024}`,
      SPILLWAY_SAMPLES_MAX_BYTES: `${STREAM_BYTES}`,
      SPILLWAY_EVICTED_MAX_BYTES: `${STREAM_BYTES}`,
      ...settings,
    };
    const config = loadConfig({ env, cwd: directory });
    const logger = createLogger('bench', 'silent');
    const link = await connectNats(config.nats, { name: 'bench', logger, signal: new AbortController().signal });
    await ensureShard(link.jsm, link.subjects, config.nats, 0);
    return new Installation(root, directory, nats, link, env);
  }

  /** Starts a service; {@link ready} waits for it. @param units what a collector is to watch */
  startService(name: ServiceName, units: Readonly<Record<string, object>> = {}): Program {
    const cwd = join(this.directory, name);
    mkdirSync(cwd, { recursive: true });
    // JSON is YAML.
    writeFileSync(join(cwd, 'spillway.yaml'), JSON.stringify({ units }));
    const program = startProgram(process.execPath, serviceArgs(this.root, name), { cwd, env: this.env, logFile: join(cwd, 'service.log') });
    this.services.set(name, program);
    return program;
  }

  service(name: ServiceName): Program {
    const program = this.services.get(name);
    if (program === undefined) throw new Error(`${name} has not been started`);
    return program;
  }

  /** Resolves when store and spillover are there and say that they are ready. */
  async ready(): Promise<void> {
    await eventually(
      async () => {
        const infos = [await this.client.storeInfo(0), await this.client.spilloverInfo(0)];
        if (!infos.every((info) => info.health.ready)) throw new Error('the services are not ready yet');
      },
      { withinMs: READY_MS, everyMs: POLL_MS },
    );
  }

  /** Publishes as fast as it is acknowledged. @param ratePerSecond rows; absent: no limit */
  async publish(payloads: Iterable<Payload>, ratePerSecond = Number.POSITIVE_INFINITY): Promise<void> {
    const { js, subjects } = this.link;
    await work(payloads, IN_FLIGHT_MAX, ratePerSecond, ({ host, bytes, id }) =>
      js.publish(subjects.samples(0, host), bytes, { msgID: id }),
    );
  }

  /** Resolves when all that had been accepted is in the window or synced in a segment. @throws when that takes too long */
  async settled(): Promise<StoreInfo> {
    const { state } = await this.link.jsm.streams.info(this.link.subjects.samplesStream(0));
    return eventually(
      async () => {
        const store = await this.client.storeInfo(0);
        const spill = await this.client.spilloverInfo(0);
        const isSynced = store.floor === 1 || spill.position?.seq === store.floor;
        if (store.head <= state.last_seq || !isSynced) {
          throw new Error(`head ${store.head} of ${state.last_seq + 1}, floor ${store.floor}, synced ${spill.position?.seq ?? 'nothing'}`);
        }
        return store;
      },
      { withinMs: SETTLE_MS, everyMs: POLL_MS },
    );
  }

  /** Publishes ticks of the trace until the window is full and evicts. */
  async fill(trace: Trace): Promise<StoreInfo> {
    for (;;) {
      await this.publish(payloadsOf(trace.take(FILL_ROWS)));
      const store = await this.client.storeInfo(0);
      if (store.floor > 1) return this.settled();
    }
  }

  async end(): Promise<void> {
    for (const program of this.services.values()) await program.kill();
    await this.link.close();
    await this.nats.stop();
    this.forget();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export function payloadsOf(batches: readonly Batch[]): Payload[] {
  return batches.flatMap((batch) => encodeBatch(batch).map(({ id, payload, rows }) => ({ host: batch.host, id, bytes: payload, rows })));
}
