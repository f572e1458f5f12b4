// A control, not a product: a spillover as one would write it first. A durable consumer, many messages in flight, each acknowledged after
// its rows are synced, and "skip what is not newer than the last row in the file". It loses rows when nats-server or itself is killed,
// because unacknowledged events come back after newer ones. A harness that does not convict it proves nothing.

import { closeSync, existsSync, fdatasyncSync, ftruncateSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseEvictionHead } from '#shared/contract/eviction';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { loadConfig } from '#shared/runtime/config';
import { createLogger } from '#shared/runtime/logging';

/** In nanoseconds, as the server wants it: what was not acknowledged comes again after this time. */
const ACK_WAIT_NS = 5_000_000_000;
const IN_FLIGHT_MAX = 64;
const RETRY_MS = 250;
/** Group commit: what came in this time is written and synced at once. */
const COMMIT_INTERVAL_MS = 1_000;
const DURABLE = 'naive';

const config = loadConfig({ env: process.env, cwd: process.cwd() });
const directory = config.metrics.spillover_path ?? '.';
const link = await connectNats(config.nats, {
  name: 'naive spillover',
  logger: createLogger('naive', 'warn'),
  signal: new AbortController().signal,
});
for (;;) {
  try {
    await consume(link);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  }
  await delay(RETRY_MS);
}

async function consume({ jsm, js, subjects }: NatsLink): Promise<void> {
  const stream = subjects.evictedStream(0);
  const settings = { durable_name: DURABLE, ack_policy: 'explicit', ack_wait: ACK_WAIT_NS, max_ack_pending: 1_000 };
  await jsm.consumers.add(stream, settings as Parameters<typeof jsm.consumers.add>[1]);
  const consumer = await js.consumers.get(stream, DURABLE);
  const file = openFile();
  const messages = await consumer.consume({ max_messages: IN_FLIGHT_MAX, expires: 3_000, idle_heartbeat: 1_000 });
  let taken: JsMsg[] = [];
  const commit = (): void => {
    for (const message of taken) {
      const head = parseEvictionHead((name) => message.headers?.get(name) ?? '');
      if (head.ok) file.append(head.value.log, Buffer.from(message.data).toString('utf8'));
    }
    file.sync();
    for (const message of taken) message.ack();
    taken = [];
  };
  const timer = setInterval(commit, COMMIT_INTERVAL_MS);
  try {
    for await (const message of messages) taken.push(message);
  } finally {
    clearInterval(timer);
    file.close();
  }
}

type JsMsg =
  Awaited<ReturnType<Awaited<ReturnType<NatsLink['js']['consumers']['get']>>['consume']>> extends AsyncIterable<infer M> ? M : never;

interface SpillFile {
  append(log: number, body: string): void;
  sync(): void;
  close(): void;
}

function openFile(): SpillFile {
  const existing = readdirSync(directory).find((name) => name.startsWith('metrics-'));
  let descriptor = existing === undefined ? null : openSync(join(directory, existing), 'a');
  let last = existing === undefined || descriptor === null ? 0 : cutTail(join(directory, existing), descriptor);
  return {
    append: (log, body) => {
      const lines = body.split('\n').filter((line) => line !== '' && seqOf(line) > last);
      const end = lines.at(-1);
      if (end === undefined) return;
      if (descriptor === null) {
        const name = `metrics-${digits(log, 13)}-${digits(seqOf(lines[0] as string), 16)}.jsonl`;
        if (existsSync(join(directory, name))) throw new Error(`${name} is there already`);
        descriptor = openSync(join(directory, name), 'a');
      }
      writeSync(descriptor, `${lines.join('\n')}\n`);
      last = seqOf(end);
    },
    sync: () => {
      if (descriptor !== null) fdatasyncSync(descriptor);
    },
    close: () => {
      if (descriptor !== null) closeSync(descriptor);
    },
  };
}

/** Removes a torn last line. @returns position of the last row */
function cutTail(path: string, descriptor: number): number {
  const text = readFileSync(path, 'utf8');
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  ftruncateSync(descriptor, Buffer.byteLength(whole));
  const end = whole.trimEnd().split('\n').at(-1);
  return end === undefined || end === '' ? 0 : seqOf(end);
}

function seqOf(line: string): number {
  return (JSON.parse(line) as { seq: number }).seq;
}

function digits(value: number, width: number): string {
  return String(value).padStart(width, '0');
}
