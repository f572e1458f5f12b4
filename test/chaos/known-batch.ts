// Batches whose every value follows from (host, boot, tick, unit), so that a row alone tells whether it is right.
// Written without the product's own row code on the reading side: a mistake made there twice must not cancel out.

import type { Batch } from '#shared/contract/batch';
import { mixed } from './random.ts';

/** What identifies a batch, or one part of a tick that was split. */
export interface BatchKey {
  /** Number of the host. */
  readonly host: number;
  /** Number of the start of its collector. */
  readonly boot: number;
  readonly tick: number;
  /** First unit and how many: all of them, unless the tick was split. */
  readonly firstUnit: number;
  readonly units: number;
}

export interface KnownValues {
  readonly pid: number;
  readonly started: number;
  readonly cpu_percent: number | null;
  readonly rss_bytes: number;
  readonly io_read_bytes: number;
  readonly io_write_bytes: number | null;
  readonly net_rx_bytes: null;
  readonly net_tx_bytes: null;
  readonly threads: number;
}

const STARTED_MS = 1_763_600_000_000;

export const hostName = (host: number): string => `host-${host}`;
export const unitName = (unit: number): string => `unit-${unit}`;
export const bootName = (boot: number): string => `boot${boot}`;

const BOOT_STEP = 1_000_000;
const TICK_STEP = 10_000;

/** What the RSS of a row says about where it comes from; null when it is none of ours. */
export function sourceOfValues(rssBytes: unknown): { readonly boot: number; readonly tick: number; readonly unit: number } | null {
  if (typeof rssBytes !== 'number' || !Number.isSafeInteger(rssBytes) || rssBytes < 0) return null;
  const source = Math.floor(rssBytes / TICK_STEP);
  return { boot: Math.floor(source / BOOT_STEP), tick: source % BOOT_STEP, unit: rssBytes % TICK_STEP };
}

/** 53 bits hold boot, tick and unit side by side, so that a row says itself which one it is. */
export function knownValues(host: number, boot: number, tick: number, unit: number): KnownValues {
  const hash = mixed(host, boot, tick, unit);
  return {
    pid: 1_000 + unit,
    started: STARTED_MS + boot * 1_000 + host,
    cpu_percent: hash % 7 === 0 ? null : (hash % 40_000) / 100,
    rss_bytes: (boot * BOOT_STEP + tick) * TICK_STEP + unit,
    io_read_bytes: hash * 1_024 + host,
    io_write_bytes: hash % 5 === 0 ? null : mixed(hash),
    net_rx_bytes: null,
    net_tx_bytes: null,
    threads: 1 + (hash % 64),
  };
}

export function knownBatch(host: number, boot: number, tick: number, units: number, ts: number, intervalMs: number, late: boolean): Batch {
  const values = Array.from({ length: units }, (_, unit) => knownValues(host, boot, tick, unit));
  return {
    v: 1,
    host: hostName(host),
    boot: bootName(boot),
    tick,
    ts,
    interval_ms: intervalMs,
    late,
    unit: values.map((_, unit) => unitName(unit)),
    state: values.map(() => 'running'),
    pid: values.map((one) => one.pid),
    started: values.map((one) => one.started),
    cpu_percent: values.map((one) => one.cpu_percent),
    rss_bytes: values.map((one) => one.rss_bytes),
    io_read_bytes: values.map((one) => one.io_read_bytes),
    io_write_bytes: values.map((one) => one.io_write_bytes),
    threads: values.map((one) => one.threads),
  };
}
