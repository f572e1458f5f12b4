// The streams, as data, created or checked idempotently. Nobody else makes a stream.

import { DiscardPolicy, type JetStreamManager, nanos, RetentionPolicy, StorageType, type StreamConfig, type StreamInfo } from 'nats';
import type { Subjects } from '#shared/contract/subjects';
import type { NatsConfig } from '#shared/runtime/config';
import { SetupError } from '#shared/runtime/service';
import { pause } from '#shared/runtime/wait';
import { apiErrorCode, isStreamNotFound, messageOf } from './errors.ts';

const DUPLICATE_WINDOW_MS = 10 * 60_000;
const ATTEMPTS_MAX = 5;
const ATTEMPT_PAUSE_MS = 200;

type Settings = Pick<
  StreamConfig,
  'name' | 'subjects' | 'retention' | 'storage' | 'discard' | 'max_bytes' | 'max_age' | 'max_msgs' | 'num_replicas' | 'duplicate_window'
>;

function settings(name: string, subject: string, maxBytes: number, replicas: number): Settings {
  return {
    name,
    subjects: [subject],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.New, // a full stream is back-pressure, not loss
    max_bytes: maxBytes,
    max_age: 0,
    max_msgs: -1,
    num_replicas: replicas,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
  };
}

export function samplesStream(subjects: Subjects, config: NatsConfig, shard: number): Settings {
  return settings(subjects.samplesStream(shard), subjects.samplesOfShard(shard), config.samples_max_bytes, config.replicas);
}

export function evictedStream(subjects: Subjects, config: NatsConfig, shard: number): Settings {
  return settings(subjects.evictedStream(shard), subjects.evicted(shard), config.evicted_max_bytes, config.replicas);
}

/**
 * Makes the stream if it is not there, and returns what the server says of it.
 * @throws {SetupError} if it exists with other settings, or the server cannot have it.
 */
export async function ensureStream(jsm: JetStreamManager, wanted: Settings): Promise<StreamInfo> {
  const info = await findOrAdd(jsm, wanted);
  const differences = differencesOf(wanted, info.config);
  if (differences.length > 0) {
    throw new SetupError(
      `stream ${wanted.name} exists with other settings: ${differences.join('; ')}. Change the configuration, or the stream (nats stream edit ${wanted.name}).`,
    );
  }
  return info;
}

/**
 * Several services make the same stream when they start together. Seen with 2.9.10: while that is under way, the room it needs is
 * reserved more than once, and one of them is told that there is not enough. So what failed is looked at again before it is believed.
 */
async function findOrAdd(jsm: JetStreamManager, wanted: Settings): Promise<StreamInfo> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await jsm.streams.info(wanted.name);
    } catch (error) {
      if (!isStreamNotFound(error)) throw explained(error, wanted.name);
    }
    try {
      return await jsm.streams.add(wanted);
    } catch (error) {
      if (attempt === ATTEMPTS_MAX || apiErrorCode(error) === null) throw explained(error, wanted.name);
      await pause(ATTEMPT_PAUSE_MS);
    }
  }
}

/** Both streams of a shard. */
export async function ensureShard(
  jsm: JetStreamManager,
  subjects: Subjects,
  config: NatsConfig,
  shard: number,
): Promise<{ samples: StreamInfo; evicted: StreamInfo }> {
  return {
    samples: await ensureStream(jsm, samplesStream(subjects, config, shard)),
    evicted: await ensureStream(jsm, evictedStream(subjects, config, shard)),
  };
}

/** Identity of a log: the creation time of its stream, in ms. */
export function logIdentity(info: StreamInfo): number {
  return Date.parse(info.created);
}

function differencesOf(wanted: Settings, actual: StreamConfig): string[] {
  return (Object.keys(wanted) as (keyof Settings)[])
    .filter((key) => JSON.stringify(wanted[key]) !== JSON.stringify(actual[key]))
    .map((key) => `${key} is ${JSON.stringify(actual[key])}, the configuration asks for ${JSON.stringify(wanted[key])}`);
}

function explained(error: unknown, stream: string): unknown {
  const code = apiErrorCode(error);
  if (code === 10039 || code === 10076)
    return new SetupError(`stream ${stream}: JetStream is not enabled on this NATS server; start it with -js or a jetstream block`);
  if (code === 10047 || code === 10023 || code === 10028) {
    return new SetupError(
      `stream ${stream}: ${messageOf(error)}; lower nats.samples_max_bytes and nats.evicted_max_bytes, or raise the server's max_file_store`,
    );
  }
  if (code === 10074) return new SetupError(`stream ${stream}: ${messageOf(error)}; nats.replicas is more than the cluster has`);
  return error;
}
