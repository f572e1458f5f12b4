import { describe, expect, test } from 'vitest';
import type { EncodedBatch } from '#shared/contract/batch';
import { Backoff } from '../../services/collector/core/backoff.ts';
import { Outbox } from '../../services/collector/core/outbox.ts';

const EMPTY_BYTES = '{"late":false,"pad":""}'.length;
const batch = (id: string, bytes = 100, rows = 10): EncodedBatch => ({
  id,
  rows,
  payload: Buffer.from(`{"late":false,"pad":"${'x'.repeat(bytes - EMPTY_BYTES)}"}`),
});
const isLate = (taken: EncodedBatch | null): unknown =>
  taken && (JSON.parse(Buffer.from(taken.payload).toString()) as { late: boolean }).late;

function outboxWith(ids: string[], options: { connected?: boolean; bytesMax?: number; inFlightMax?: number } = {}): Outbox {
  const outbox = new Outbox({ bytesMax: options.bytesMax ?? 1_000, inFlightMax: options.inFlightMax ?? 2 });
  if (options.connected !== false) outbox.connected();
  for (const id of ids) outbox.add(batch(id));
  return outbox;
}

describe('Outbox', () => {
  test('nothing is handed out before there is a connection; what waited for it is late', () => {
    const outbox = outboxWith(['a'], { connected: false });
    expect(outbox.takeNext()).toBeNull();
    outbox.connected();
    const taken = outbox.takeNext();
    expect([taken?.id, isLate(taken)]).toEqual(['a', true]);
  });

  test('only so many are under way at the same time', () => {
    const outbox = outboxWith(['a', 'b', 'c']);
    expect([outbox.takeNext()?.id, outbox.takeNext()?.id, outbox.takeNext()]).toEqual(['a', 'b', null]);
    expect(outbox.acknowledged('a')).toBe(true);
    expect(outbox.takeNext()?.id).toBe('c');
  });

  test('after an outage the fresh go first, the backlog follows oldest first, late, under the same ids', () => {
    const outbox = outboxWith(['a', 'b'], { inFlightMax: 9 });
    expect(outbox.takeNext()?.id).toBe('a');
    outbox.disconnected();
    expect(outbox.takeNext()).toBeNull();
    outbox.add(batch('c'));
    outbox.connected();
    outbox.add(batch('d'));
    const taken = [outbox.takeNext(), outbox.takeNext(), outbox.takeNext(), outbox.takeNext()];
    expect(taken.map((one) => [one?.id, isLate(one)])).toEqual([
      ['d', false],
      ['a', true],
      ['b', true],
      ['c', true],
    ]);
  });

  test('a batch whose publish failed comes again, late, in its place among the backlog', () => {
    const outbox = outboxWith(['a', 'b', 'c'], { inFlightMax: 9 });
    for (let i = 0; i < 3; i++) outbox.takeNext();
    for (const id of ['c', 'a', 'b']) outbox.failed(id);
    expect([outbox.takeNext()?.id, outbox.takeNext()?.id, outbox.takeNext()?.id]).toEqual(['a', 'b', 'c']);
  });

  test('a full outbox drops its oldest and counts their rows; the limit itself still fits', () => {
    const outbox = outboxWith([], { bytesMax: 300 });
    for (const id of ['a', 'b', 'c']) outbox.add(batch(id));
    expect([outbox.bytes, outbox.rows, outbox.droppedRows.outbox_full]).toEqual([300, 30, 0]);
    outbox.add(batch('d', 101));
    expect([outbox.bytes, outbox.batches, outbox.droppedRows.outbox_full]).toEqual([201, 2, 20]);
    expect(outbox.takeNext()?.id).toBe('c');
  });

  test('the backlog is older than the fresh', () => {
    const outbox = outboxWith(['a'], { connected: false, bytesMax: 200 });
    outbox.connected();
    outbox.add(batch('b'));
    outbox.add(batch('c'));
    expect(outbox.takeNext()?.id).toBe('b');
    expect(outbox.takeNext()?.id).toBe('c');
  });

  test('what is under way is never dropped: the newcomer is, if nothing else can be', () => {
    const outbox = outboxWith(['a', 'b'], { bytesMax: 200 });
    outbox.takeNext();
    outbox.takeNext();
    outbox.add(batch('c'));
    expect(outbox.droppedRows.outbox_full).toBe(10);
    expect([outbox.acknowledged('a'), outbox.acknowledged('b'), outbox.rows, outbox.bytes]).toEqual([true, true, 0, 0]);
  });

  test('a batch larger than the whole outbox is dropped', () => {
    const outbox = outboxWith([], { bytesMax: 200 });
    outbox.add(batch('a', 201));
    expect([outbox.rows, outbox.droppedRows.outbox_full]).toEqual([0, 10]);
  });

  test('a refused batch leaves, counted under its own reason', () => {
    const outbox = outboxWith(['a']);
    outbox.takeNext();
    outbox.refused('a');
    outbox.refused('a');
    expect([outbox.rows, outbox.bytes, outbox.droppedRows.refused]).toEqual([0, 0, 10]);
  });

  test('an acknowledgement that arrives after the connection is lost still counts, once', () => {
    const outbox = outboxWith(['a']);
    outbox.takeNext();
    outbox.disconnected();
    expect(outbox.acknowledged('a')).toBe(true);
    expect(outbox.acknowledged('a')).toBe(false);
    outbox.failed('a');
    expect(outbox.rows).toBe(0);
  });
});

describe('Backoff', () => {
  test('doubles up to its limit; failures at the same time count once; one success ends it', () => {
    const backoff = new Backoff(250, 1_000);
    expect(backoff.remainingMs(0)).toBe(0);
    backoff.failed(0);
    backoff.failed(1);
    expect(backoff.remainingMs(0)).toBe(250);
    expect(backoff.remainingMs(250)).toBe(0);
    backoff.failed(250);
    expect(backoff.remainingMs(250)).toBe(500);
    backoff.failed(750);
    backoff.failed(1_750);
    expect(backoff.remainingMs(1_750)).toBe(1_000);
    backoff.succeeded();
    expect(backoff.remainingMs(1_750)).toBe(0);
    backoff.failed(1_800);
    expect(backoff.remainingMs(1_800)).toBe(250);
  });
});
