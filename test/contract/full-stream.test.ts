// A full stream refuses what is new and keeps what it has: also with a server that would give up its oldest message for it.

import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { EvictionEvent } from '#shared/contract/eviction';
import type { NatsLink } from '#shared/nats/connection';
import { isStreamFull } from '#shared/nats/errors';
import { publishToLog } from '#shared/nats/full-stream';
import { ensureShard } from '#shared/nats/topology';
import { EvictedLog } from '../../services/store/evicted-log.ts';
import { connectTest, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';

const STREAM_BYTES = 16_384;
const ROUNDS = 40;

let server: TestServer;
let link: NatsLink;
let samples: string;
let evicted: string;
beforeAll(async () => {
  server = await startNatsServer();
});
afterAll(() => server.stop());
beforeEach(async () => {
  const config = testConfig({
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_SAMPLES_MAX_BYTES: `${STREAM_BYTES}`,
    SPILLWAY_EVICTED_MAX_BYTES: `${STREAM_BYTES}`,
  });
  link = await connectTest(config);
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
  samples = link.subjects.samplesStream(0);
  evicted = link.subjects.evictedStream(0);
});
afterEach(() => link.close());

const stateOf = async (stream: string) => (await link.jsm.streams.info(stream)).state;
const upTo = (most: number): number => 1 + Math.floor(Math.random() * most);

describe('a full stream', () => {
  test('with many publishers keeps its oldest message', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const bytesMost = upTo(3_000);
      let accepted = 0;
      for (let refused = 0; refused < 10; ) {
        const host = `h${upTo(9)}`;
        try {
          const options = { id: `${round}:${accepted}`, timeoutMs: 2_000 };
          await publishToLog(link, link.subjects.samples(0, host), randomBytes(upTo(bytesMost)), options);
          accepted++;
        } catch (error) {
          if (!isStreamFull(error)) throw error;
          refused++;
        }
      }
      const { messages, bytes } = await stateOf(samples);
      expect(messages).toBe(accepted);
      expect(bytes).toBeLessThanOrEqual(STREAM_BYTES);
      await link.jsm.streams.purge(samples);
    }
  });

  test('with one publisher keeps its oldest message, and takes on what fits when there is room again', async () => {
    const log = new EvictedLog(link, 0, 4_000, () => undefined);
    await log.readTail();
    let at = 1;
    let first = 1;
    for (let round = 0; round < ROUNDS; round++) {
      const bytesMost = upTo(3_000);
      let events = 0;
      for (let attempts = 0; attempts < 10; attempts++) {
        const outcome = await log.publish(endlessEvents(at, bytesMost), at);
        expect(outcome.failure).toBe('full');
        at = outcome.to;
        events += outcome.events;
      }
      expect(events).toBeGreaterThan(0);
      const state = await stateOf(evicted);
      expect(state).toMatchObject({ first_seq: first, last_seq: at - 1, messages: at - first });
      expect(state.bytes).toBeLessThanOrEqual(STREAM_BYTES);
      first = Math.min(first + 5, at - 1);
      await link.jsm.streams.purge(evicted, { seq: first });
    }
  });

  test('why: a message that fits only without what a server before 2.10.5 adds to it costs that one its oldest', async () => {
    const [, minor = 0, patch = 0] = (link.nc.info?.version ?? '').split('.').map(Number);
    const isExact = minor > 10 || (minor === 10 && patch >= 5);
    const subject = link.subjects.samples(0, 'h1');
    const added = 30 + subject.length; // to a message without headers
    await link.js.publish(subject, 'oldest');
    const { bytes } = await stateOf(samples);
    expect(bytes).toBe(added + 'oldest'.length);
    const fill = 'x'.repeat(STREAM_BYTES - bytes - added - 100);
    await link.js.publish(subject, fill);
    const last = link.js.publish(subject, 'y'.repeat(90));
    if (isExact) await expect(last).rejects.toSatisfy(isStreamFull);
    else await last;
    expect((await stateOf(samples)).first_seq).toBe(isExact ? 1 : 2);
  });
});

function* endlessEvents(from: number, bytesMost: number): Generator<EvictionEvent> {
  for (let seq = from; ; seq++) {
    const body = randomBytes(upTo(bytesMost));
    yield { log: 1, from: seq, to: seq + 1, rows: 1, rowsBelow: seq, crc32: 0, reason: 'memory', duplicates: [], dropped: 0, body };
  }
}
