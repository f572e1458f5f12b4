// Samples for tests: every field has a value, the ones that matter are given.

import type { Sample } from '#shared/contract/row';
import { unitHash } from '#shared/contract/series';

export function sampleAt(given: Partial<Sample> & { seq: number; ts: number }): Sample {
  const host = given.host ?? 'h1';
  const unit = given.unit ?? 'api';
  return {
    host,
    unit,
    unit_hash: unitHash(host, unit),
    timestamp: new Date(given.ts).toISOString(),
    state: 'running',
    pid: 812,
    started: 1_763_670_000_000,
    cpu_percent: 1.5,
    rss_bytes: 104_857_600,
    io_read_bytes: 0,
    io_write_bytes: 4096,
    net_rx_bytes: null,
    net_tx_bytes: null,
    threads: 12,
    ...given,
  };
}
