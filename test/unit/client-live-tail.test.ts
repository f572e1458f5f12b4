import { describe, expect, test } from 'vitest';
import { LiveTail } from '#client/live-tail';
import { sampleAt } from '../support/samples.ts';

const message = (ts: number): Uint8Array => new TextEncoder().encode(JSON.stringify(sampleAt({ seq: 1, ts })));

async function timesOf(tail: LiveTail): Promise<number[]> {
  const times: number[] = [];
  for await (const sample of tail) times.push(sample.ts);
  return times;
}

describe('LiveTail', () => {
  test('hands over what came, in order, and ends when it is stopped', async () => {
    let stops = 0;
    const tail = new LiveTail(10, () => stops++);
    tail.push(message(1));
    const reading = timesOf(tail);
    await Promise.resolve();
    tail.push(message(2));
    tail.stop();
    tail.push(message(3));
    tail.stop();
    expect(await reading).toEqual([1, 2]);
    expect(stops).toBe(1);
  });

  test('a slow reader loses the oldest, counted, and never more is kept than allowed', async () => {
    const tail = new LiveTail(3, () => undefined);
    for (let ts = 1; ts <= 5; ts++) tail.push(message(ts));
    expect(tail.dropped).toBe(2);
    tail.stop();
    expect(await timesOf(tail)).toEqual([3, 4, 5]);
  });

  test('what is not a sample is counted and left out', async () => {
    const tail = new LiveTail(3, () => undefined);
    for (const text of ['', 'null', '[]', '{"host":"h1"}', '{']) tail.push(new TextEncoder().encode(text));
    tail.stop();
    expect(tail.unreadable).toBe(5);
    expect(await timesOf(tail)).toEqual([]);
  });

  test('leaving the loop stops it', async () => {
    let isStopped = false;
    const tail = new LiveTail(3, () => {
      isStopped = true;
    });
    tail.push(message(1));
    for await (const sample of tail) {
      expect(sample.ts).toBe(1);
      break;
    }
    expect(isStopped).toBe(true);
  });
});
