// The one place that makes and reads subjects and stream names. The client library checks nothing: a line break in a
// name would be an injection into the protocol, so every name passes through `encodeToken`.

import { decodeToken, encodeToken } from './series.ts';

export const PREFIX_PATTERN = /^[A-Za-z0-9_-]{1,32}$/;

export interface Subjects {
  readonly prefix: string;
  /** Batches of one host. */
  samples(shard: number, host: string): string;
  /** Every batch of a shard: what its SAMPLES stream keeps. */
  samplesOfShard(shard: number): string;
  /** Host named by a batch's subject, or null if it is not such a subject. */
  hostOfSamples(subject: string): string | null;
  live(host: string, unit: string): string;
  /** Filter for live samples; a missing host or unit is every one. */
  liveFilter(host?: string, unit?: string): string;
  lifecycle(host: string, unit: string): string;
  lifecycleFilter(host?: string, unit?: string): string;
  evicted(shard: number): string;
  readonly rejected: string;
  /** Group of the store's queries. */
  query(shard: number): string;
  /** Group of the spillover's queries. */
  spill(shard: number): string;
  /** Group of a collector's queries. */
  collector(host: string): string;
  samplesStream(shard: number): string;
  evictedStream(shard: number): string;
}

/** @param prefix separates installations that share an account; {@link PREFIX_PATTERN}. */
export function createSubjects(prefix: string): Subjects {
  if (!PREFIX_PATTERN.test(prefix)) throw new RangeError(`prefix ${JSON.stringify(prefix)}: only letters, digits, _ and -, 32 at most`);
  const streamPrefix = prefix.toUpperCase();
  const one = (name: string | undefined): string => (name === undefined ? '*' : encodeToken(name));
  return {
    prefix,
    samples: (shard, host) => `${prefix}.samples.${shard}.${encodeToken(host)}`,
    samplesOfShard: (shard) => `${prefix}.samples.${shard}.*`,
    hostOfSamples: (subject) => {
      const tokens = subject.split('.');
      if (tokens.length !== 4 || tokens[0] !== prefix || tokens[1] !== 'samples') return null;
      return decodeToken(tokens[3] ?? '');
    },
    live: (host, unit) => `${prefix}.live.${encodeToken(host)}.${encodeToken(unit)}`,
    liveFilter: (host, unit) => `${prefix}.live.${one(host)}.${one(unit)}`,
    lifecycle: (host, unit) => `${prefix}.lifecycle.${encodeToken(host)}.${encodeToken(unit)}`,
    lifecycleFilter: (host, unit) => `${prefix}.lifecycle.${one(host)}.${one(unit)}`,
    evicted: (shard) => `${prefix}.evicted.${shard}`,
    rejected: `${prefix}.rejected`,
    query: (shard) => `${prefix}.query.${shard}`,
    spill: (shard) => `${prefix}.spill.${shard}`,
    collector: (host) => `${prefix}.collector.${encodeToken(host)}`,
    samplesStream: (shard) => `${streamPrefix}_SAMPLES_${shard}`,
    evictedStream: (shard) => `${streamPrefix}_EVICTED_${shard}`,
  };
}
