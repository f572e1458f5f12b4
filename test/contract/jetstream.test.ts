// What we rely on of JetStream, each shown once. A new server version is tried against this first.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NatsLink } from '#shared/nats/connection';
import { isStreamFull, isWrongLastSequence, messageOf } from '#shared/nats/errors';
import { purgeBelow } from '#shared/nats/purge';
import { ensureShard, ensureStream, logIdentity, samplesStream } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import { SetupError } from '#shared/runtime/service';
import { startSpillover } from '../../services/spillover/main.ts';
import { startStore } from '../../services/store/main.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';

let server: TestServer;
let link: NatsLink;
let config: Config;
beforeAll(async () => {
  server = await startNatsServer();
});
afterAll(() => server.stop());

async function open(
  env: Record<string, string> = {},
): Promise<{ subject: string; stream: string; publish: (data?: string) => Promise<number> }> {
  config = testConfig({ SPILLWAY_NATS_SERVERS: server.url, ...env });
  link = await connectTest(config);
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
  const subject = link.subjects.evicted(0);
  return { subject, stream: link.subjects.evictedStream(0), publish: async (data = 'x') => (await link.js.publish(subject, data)).seq };
}

const stateOf = async (stream: string) => (await link.jsm.streams.info(stream)).state;

describe('JetStream', () => {
  test('a purge below a sequence keeps it and what is above; below 2 nothing is purged, though the server would empty the stream', async () => {
    const { stream, publish } = await open();
    for (let i = 0; i < 5; i++) await publish();
    for (const seq of [0, 1]) await purgeBelow(link.jsm, stream, seq);
    expect(await stateOf(stream)).toMatchObject({ messages: 5, first_seq: 1 });
    await purgeBelow(link.jsm, stream, 4);
    expect(await stateOf(stream)).toMatchObject({ messages: 2, first_seq: 4, last_seq: 5 });
    await link.close();
  });

  test('what is acknowledged survives the killing of a server that has purged, though a purge near the end would lose it', async () => {
    const { stream, publish } = await open();
    const large = 'x'.repeat(50_000);
    let { last_seq: last } = await stateOf(stream);
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 10; i++) last = await publish(large);
      await purgeBelow(link.jsm, stream, last - 2);
      for (let i = 0; i < 3; i++) last = await publish(large);
      await server.kill();
      await server.start();
      const found = await eventually(() => stateOf(stream), { withinMs: 20_000 });
      expect(found.last_seq, `after kill ${round + 1}`).toBe(last);
      expect(found.first_seq).toBeLessThanOrEqual(last - 5);
    }
    await purgeBelow(link.jsm, stream, last);
    await purgeBelow(link.jsm, stream, last);
    expect(await stateOf(stream)).toMatchObject({ messages: 1, first_seq: last });
    await link.close();
  });

  test('the expected last sequence holds after purges and a restart of the server', async () => {
    const { subject, stream, publish } = await open();
    for (let i = 0; i < 5; i++) await publish();
    await purgeBelow(link.jsm, stream, 5);
    const expecting = (lastSequence: number) => link.js.publish(subject, 'y', { expect: { lastSequence } });
    await expect(expecting(4)).rejects.toSatisfy(isWrongLastSequence);
    expect((await expecting(5)).seq).toBe(6);
    await server.kill();
    await server.start();
    await link.close();
    link = await connectTest(config);
    await expect(link.js.publish(subject, 'y', { expect: { lastSequence: 5 } })).rejects.toSatisfy(isWrongLastSequence);
    expect((await link.js.publish(subject, 'y', { expect: { lastSequence: 6 } })).seq).toBe(7);
    await link.close();
  });

  test('a repetition is told as one, with the sequence of the first, before the expected sequence is looked at', async () => {
    const { subject } = await open();
    const first = await link.js.publish(subject, 'a', { msgID: 'one', expect: { lastSequence: 0 } });
    const again = await link.js.publish(subject, 'a', { msgID: 'one', expect: { lastSequence: 0 } });
    expect([first.duplicate, again.duplicate, again.seq]).toEqual([false, true, first.seq]);
    await link.close();
  });

  test('a full stream refuses, and keeps what it has', async () => {
    const { stream, publish } = await open({ SPILLWAY_EVICTED_MAX_BYTES: '3000' });
    await publish('x'.repeat(1000));
    await publish('x'.repeat(1000));
    await expect(publish('x'.repeat(1000))).rejects.toSatisfy(isStreamFull);
    expect(await stateOf(stream)).toMatchObject({ messages: 2, first_seq: 1 });
    await link.close();
  });

  test('streams are made once, checked after that, and a difference is named', async () => {
    const { stream } = await open();
    const before = await link.jsm.streams.info(stream);
    expect(logIdentity((await ensureShard(link.jsm, link.subjects, config.nats, 0)).evicted)).toBe(logIdentity(before));
    const other = { ...config.nats, samples_max_bytes: 12345 };
    await expect(ensureStream(link.jsm, samplesStream(link.subjects, other, 0))).rejects.toThrow(
      /max_bytes is 1073741824, the configuration asks for 12345/,
    );
    await expect(ensureStream(link.jsm, samplesStream(link.subjects, other, 0))).rejects.toThrow(SetupError);
    await link.close();
  });

  test('many that start together make one stream, also where there is room for just one', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'spillway-nats-'));
    writeFileSync(
      join(directory, 'nats.conf'),
      `jetstream { store_dir: ${JSON.stringify(join(directory, 'js'))}, max_file_store: 2200000 }\n`,
    );
    const tight = await startNatsServer({ jetStream: false, args: ['-c', join(directory, 'nats.conf')] });
    const own = testConfig({
      SPILLWAY_NATS_SERVERS: tight.url,
      SPILLWAY_SAMPLES_MAX_BYTES: '1000000',
      SPILLWAY_EVICTED_MAX_BYTES: '1000000',
    });
    const links = await Promise.all(Array.from({ length: 6 }, () => connectTest(own)));
    const made = await Promise.all(links.map((one) => ensureShard(one.jsm, one.subjects, own.nats, 0)));
    expect(new Set(made.map(({ samples }) => logIdentity(samples))).size).toBe(1);
    const more = { ...own.nats, samples_max_bytes: 5_000_000 };
    const [first] = links as [NatsLink];
    await expect(ensureStream(first.jsm, samplesStream(first.subjects, more, 7))).rejects.toThrow(/raise the server's max_file_store/);
    for (const one of links) await one.close();
    await tight.stop();
    rmSync(directory, { recursive: true });
  });

  test('a server without JetStream is told so', async () => {
    const plain = await startNatsServer({ jetStream: false });
    const own = testConfig({ SPILLWAY_NATS_SERVERS: plain.url });
    const connection = await connectTest(own);
    await expect(ensureShard(connection.jsm, connection.subjects, own.nats, 0)).rejects.toSatisfy((error) =>
      /is JetStream enabled/.test(messageOf(error)),
    );
    await connection.close();
    await plain.stop();
  });
});

test('a server that would refuse our larger messages is told so, with what to do', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-nats-'));
  writeFileSync(join(directory, 'nats.conf'), 'max_payload: 131072\n');
  const small = await startNatsServer({ args: ['-c', join(directory, 'nats.conf')] });
  const own = testConfig({ SPILLWAY_NATS_SERVERS: small.url, SPILLWAY_SPILLOVER_PATH: directory });
  const options = { config: own, logger: silent, stopping: new AbortController().signal };
  for (const start of [startStore, startSpillover]) await expect(start(options)).rejects.toThrow(/131072 bytes at most.*raise max_payload/);
  await small.stop();
  rmSync(directory, { recursive: true });
});
