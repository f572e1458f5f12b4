import type { Subscription, SubscriptionOptions } from 'nats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NatsLink } from '#shared/nats/connection';
import { type LogMessage, LogReader, parsePlace, StreamLostError } from '#shared/nats/log-reader';
import { ensureShard } from '#shared/nats/topology';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startNatsServer();
});
afterAll(() => server.stop());

async function open(
  env: Record<string, string> = {},
): Promise<{ link: NatsLink; stream: string; publish: (count: number, bytes?: number) => Promise<void> }> {
  const config = testConfig({ SPILLWAY_NATS_SERVERS: server.url, ...env });
  const link = await connectTest(config);
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
  const publish = async (count: number, bytes = 10): Promise<void> => {
    for (let i = 0; i < count; i++) await link.js.publish(link.subjects.samples(0, 'h1'), 'x'.repeat(bytes));
  };
  return { link, stream: link.subjects.samplesStream(0), publish };
}

async function read(reader: LogReader, count: number): Promise<LogMessage[]> {
  const messages: LogMessage[] = [];
  while (messages.length < count) {
    const pulled = await reader.pull(5_000);
    if (pulled.length === 0) throw new Error(`only ${messages.length} of ${count} messages came`);
    messages.push(...pulled);
  }
  return messages;
}

const seqs = (messages: LogMessage[]): number[] => messages.map((message) => message.seq);
const upTo = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('LogReader', () => {
  test('reads from its position, in order, and then waits for what comes', async () => {
    const { link, stream, publish } = await open();
    await publish(20);
    const reader = new LogReader({ link, stream, from: 5, messagesMax: 4, bytesMax: 100_000, logger: silent });
    expect(seqs(await read(reader, 16))).toEqual(upTo(5, 20));
    expect(await reader.pull(50)).toEqual([]);
    await publish(1);
    const [next] = await read(reader, 1);
    expect(next).toMatchObject({ seq: 21, subject: link.subjects.samples(0, 'h1'), pending: 0 });
    expect(Math.abs((next?.timeMs ?? 0) - Date.now())).toBeLessThan(60_000);
    await reader.close();
    await link.close();
  });

  test('positions that are left out are asked for again, and gone only when they are left out again', async () => {
    const { link, stream, publish } = await open();
    await publish(5);
    await link.jsm.streams.deleteMessage(stream, 4);
    // To the first consumer's inbox position 3 comes as the very first delivery, as if 1 and 2 had never been.
    let isFirst = true;
    const subscribe = (subject: string, options: SubscriptionOptions): Subscription => {
      const { callback } = options;
      if (!isFirst || callback === undefined) return link.nc.subscribe(subject, options);
      isFirst = false;
      return link.nc.subscribe(subject, {
        callback: (error, message) => {
          const place = parsePlace(message.reply ?? '');
          const reply = message.reply
            ?.split('.')
            .with(6, `${(place?.delivery ?? 0) - 2}`)
            .join('.');
          if (place === null) callback(error, message);
          else if (place.seq > 2) callback(error, Object.create(message, { reply: { value: reply } }));
        },
      });
    };
    const leaving = { ...link, nc: Object.create(link.nc, { subscribe: { value: subscribe } }) as NatsLink['nc'] };
    const reader = new LogReader({ link: leaving, stream, from: 1, messagesMax: 100, bytesMax: 100_000, logger: silent });
    expect(seqs(await read(reader, 4))).toEqual([1, 2, 3, 5]);
    expect(isFirst).toBe(false);
    const rest = new LogReader({ link, stream, from: 3, messagesMax: 100, bytesMax: 100_000, logger: silent });
    expect(seqs(await read(rest, 2))).toEqual([3, 5]);
    for (const one of [reader, rest]) await one.close();
    await link.close();
  });

  test('never holds more than it asked for, and a message larger than its bytes still comes, alone', async () => {
    const { link, stream, publish } = await open();
    await publish(10, 1_000);
    await publish(1, 50_000);
    await publish(10, 1_000);
    const reader = new LogReader({ link, stream, from: 1, messagesMax: 100, bytesMax: 4_000, logger: silent });
    const got: LogMessage[] = [];
    while (got.length < 21) {
      const pulled = await reader.pull(5_000);
      const bytes = pulled.reduce((sum, message) => sum + message.data.length, 0);
      expect(bytes <= 4_000 || pulled.length === 1, `${pulled.length} messages, ${bytes} bytes`).toBe(true);
      got.push(...pulled);
    }
    expect(seqs(got)).toEqual(upTo(1, 21));
    await reader.close();
    await link.close();
  });

  test('asks for as much as it is told before the next request', async () => {
    const { link, stream, publish } = await open();
    await publish(40, 1_000);
    const reader = new LogReader({ link, stream, from: 1, messagesMax: 100, bytesMax: 4_000, logger: silent });
    const requests: number[] = [];
    link.nc.subscribe(`$JS.API.CONSUMER.MSG.NEXT.${stream}.>`, {
      callback: (_, message) => void requests.push(message.json<{ max_bytes: number }>().max_bytes),
    });
    const got: LogMessage[] = [];
    for (const bytesMax of [undefined, 20_000, 20_000, 20_000]) {
      if (got.length === 40) break;
      const pulled = await reader.pull(5_000, bytesMax);
      got.push(...pulled);
      const bytes = pulled.reduce((sum, message) => sum + message.data.length, 0);
      expect(bytes + reader.bytesDue).toBeLessThanOrEqual(bytesMax ?? 4_000);
    }
    while (got.length < 40) got.push(...(await reader.pull(5_000, 20_000)));
    expect(seqs(got)).toEqual(upTo(1, 40));
    await eventually(() => expect(requests.slice(0, 2)).toEqual([4_000, 20_000]));
    await reader.close();
    await link.close();
  });

  test('a deleted consumer is made anew at the own position', async () => {
    const { link, stream, publish } = await open();
    await publish(3);
    const reader = new LogReader({ link, stream, from: 1, messagesMax: 10, bytesMax: 100_000, logger: silent });
    expect(seqs(await read(reader, 3))).toEqual([1, 2, 3]);
    for await (const consumer of link.jsm.consumers.list(stream)) await link.jsm.consumers.delete(stream, consumer.name);
    await publish(2);
    expect(seqs(await read(reader, 2))).toEqual([4, 5]);
    await reader.close();
    await link.close();
  });

  test('seek reads again from another position', async () => {
    const { link, stream, publish } = await open();
    await publish(5);
    const reader = new LogReader({ link, stream, from: 1, messagesMax: 10, bytesMax: 100_000, logger: silent });
    await read(reader, 5);
    reader.seek(3);
    expect(seqs(await read(reader, 3))).toEqual([3, 4, 5]);
    await reader.close();
    await link.close();
  });

  test('a stream that does not exist is an error of its own', async () => {
    const { link } = await open();
    const reader = new LogReader({ link, stream: 'NO_SUCH_STREAM', from: 1, messagesMax: 10, bytesMax: 1_000, logger: silent });
    await expect(reader.pull(1_000)).rejects.toThrow(StreamLostError);
    await reader.close();
    await link.close();
  });

  test('goes on by itself after the server was killed and started again with its data', async () => {
    const own = await startNatsServer();
    const config = testConfig({ SPILLWAY_NATS_SERVERS: own.url });
    const link = await connectTest(config);
    await ensureShard(link.jsm, link.subjects, config.nats, 0);
    const publish = () => link.js.publish(link.subjects.samples(0, 'h1'), 'x');
    for (let i = 0; i < 50; i++) await publish();
    const reader = new LogReader({
      link,
      stream: link.subjects.samplesStream(0),
      from: 1,
      messagesMax: 10,
      bytesMax: 100_000,
      logger: silent,
    });
    const got = seqs(await read(reader, 10));
    await own.kill();
    await own.start();
    await eventually(publish, { withinMs: 15_000 });
    got.push(...seqs(await read(reader, 41)));
    expect(got).toEqual(upTo(1, 51));
    await reader.close();
    await link.close();
    await own.stop();
  });

  test('the place of a delivery is read from both forms of its reply subject', () => {
    expect(parsePlace('$JS.ACK.S.c.1.42.7.1763678400123000000.3')).toEqual({ seq: 42, delivery: 7, timeMs: 1763678400123, pending: 3 });
    expect(parsePlace('$JS.ACK._.acc.S.c.1.42.7.1763678400123000000.3.rnd')).toMatchObject({ seq: 42, delivery: 7, pending: 3 });
    expect(parsePlace('_INBOX.x')).toBeNull();
  });
});
