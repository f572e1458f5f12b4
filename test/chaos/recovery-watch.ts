// How long a service takes to do its work again: from the end of the last fault that touched it to the first answer in which it says
// that it is ready. Asked over a connection that no fault is put on, several times a second.

import { setTimeout as delay } from 'node:timers/promises';
import type { SpillwayClient } from '#client/client';
import type { Target } from './faults.ts';

type Watched = 'store' | 'spillover';

const TOUCHED_BY: Readonly<Record<Watched, readonly Target[]>> = {
  // A spill that is blocked holds up eviction, and with it reading: that is back-pressure, not slowness.
  store: ['nats', 'store', 'link of store', 'spillover', 'link of spillover', 'disk'],
  spillover: ['nats', 'spillover', 'link of spillover', 'disk'],
};
const POLL_MS = 100;

/** @param before what the service last said before it was ready, or why it did not answer */
type OnRecovery = (service: Watched, ms: number, before: string) => void;

export class RecoveryWatch {
  slowest: { readonly service: string; readonly ms: number } | null = null;
  private readonly client: SpillwayClient;
  private readonly onRecovery: OnRecovery;
  private readonly under = new Set<Target>();
  /** When the last fault on a service ended; null when it has recovered from it. */
  private readonly since = new Map<Watched, number | null>();
  private isRunning = true;
  private readonly work: Promise<unknown>;

  constructor(client: SpillwayClient, watched: readonly Watched[], onRecovery: OnRecovery) {
    this.client = client;
    this.onRecovery = onRecovery;
    this.work = Promise.all(watched.map((name) => this.watch(name)));
  }

  begin(target: Target): void {
    this.under.add(target);
  }

  end(target: Target): void {
    this.under.delete(target);
    for (const name of ['store', 'spillover'] as const) if (TOUCHED_BY[name].includes(target)) this.since.set(name, Date.now());
  }

  async stop(): Promise<void> {
    this.isRunning = false;
    await this.work;
  }

  private async watch(name: Watched): Promise<void> {
    let before = '';
    while (this.isRunning) {
      await delay(POLL_MS);
      const since = this.since.get(name) ?? null;
      if (since === null || TOUCHED_BY[name].some((target) => this.under.has(target))) continue;
      const unready = await this.unready(name);
      if (this.since.get(name) !== since) continue;
      if (unready !== null) {
        before = unready;
        continue;
      }
      this.since.set(name, null);
      const ms = Date.now() - since;
      if (this.slowest === null || ms > this.slowest.ms) this.slowest = { service: name, ms };
      this.onRecovery(name, ms, before);
    }
  }

  /** Null when it is ready. */
  private async unready(name: Watched): Promise<string | null> {
    try {
      const info = name === 'store' ? await this.client.storeInfo(0) : await this.client.spilloverInfo(0);
      return info.health.ready ? null : JSON.stringify(info);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
}
