import { describe, expect, test } from 'vitest';
import type { EncodedBatch } from '#shared/contract/batch';
import { Backoff } from '../../services/collector/core/backoff.ts';
import { Outbox } from '../../services/collector/core/outbox.ts';
import { decodeRecord, encodeRecord, type SpoolRecord, spoolFormat } from '../../services/collector/core/spool-record.ts';

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
  for (const id of ids) outbox.add(batch(id), 0);
  return outbox;
}

describe('Outbox', () => {
  test('nothing is handed out before there is a connection; what waited for it is late', () => {
    const outbox = outboxWith(['a'], { connected: false });
    expect(outbox.takeNext(0)).toBeNull();
    outbox.connected();
    const taken = outbox.takeNext(0);
    expect([taken?.id, isLate(taken)]).toEqual(['a', true]);
  });

  test('only so many are under way at the same time', () => {
    const outbox = outboxWith(['a', 'b', 'c']);
    expect([outbox.takeNext(0)?.id, outbox.takeNext(0)?.id, outbox.takeNext(0)]).toEqual(['a', 'b', null]);
    expect(outbox.acknowledged('a')).toBe(true);
    expect(outbox.takeNext(0)?.id).toBe('c');
  });

  test('after an outage the fresh go first, the backlog follows oldest first, late, under the same ids', () => {
    const outbox = outboxWith(['a', 'b'], { inFlightMax: 9 });
    expect(outbox.takeNext(0)?.id).toBe('a');
    outbox.disconnected();
    expect(outbox.takeNext(0)).toBeNull();
    outbox.add(batch('c'), 0);
    outbox.connected();
    outbox.add(batch('d'), 0);
    const taken = [outbox.takeNext(0), outbox.takeNext(0), outbox.takeNext(0), outbox.takeNext(0)];
    expect(taken.map((one) => [one?.id, isLate(one)])).toEqual([
      ['d', false],
      ['a', true],
      ['b', true],
      ['c', true],
    ]);
  });

  test('a batch whose publish failed comes again, late, in its place among the backlog', () => {
    const outbox = outboxWith(['a', 'b', 'c'], { inFlightMax: 9 });
    for (let i = 0; i < 3; i++) outbox.takeNext(0);
    for (const id of ['c', 'a', 'b']) outbox.failed(id);
    expect([outbox.takeNext(0)?.id, outbox.takeNext(0)?.id, outbox.takeNext(0)?.id]).toEqual(['a', 'b', 'c']);
  });

  test('a full outbox drops its oldest and counts their rows; the limit itself still fits', () => {
    const outbox = outboxWith([], { bytesMax: 300 });
    for (const id of ['a', 'b', 'c']) outbox.add(batch(id), 0);
    expect([outbox.bytes, outbox.rows, outbox.droppedRows.outbox_full]).toEqual([300, 30, 0]);
    outbox.add(batch('d', 101), 0);
    expect([outbox.bytes, outbox.batches, outbox.droppedRows.outbox_full]).toEqual([201, 2, 20]);
    expect(outbox.takeNext(0)?.id).toBe('c');
  });

  test('the backlog is older than the fresh', () => {
    const outbox = outboxWith(['a'], { connected: false, bytesMax: 200 });
    outbox.connected();
    outbox.add(batch('b'), 0);
    outbox.add(batch('c'), 0);
    expect(outbox.takeNext(0)?.id).toBe('b');
    expect(outbox.takeNext(0)?.id).toBe('c');
  });

  test('what is under way is never dropped: the newcomer is, if nothing else can be', () => {
    const outbox = outboxWith(['a', 'b'], { bytesMax: 200 });
    outbox.takeNext(0);
    outbox.takeNext(0);
    outbox.add(batch('c'), 0);
    expect(outbox.droppedRows.outbox_full).toBe(10);
    expect([outbox.acknowledged('a'), outbox.acknowledged('b'), outbox.rows, outbox.bytes]).toEqual([true, true, 0, 0]);
  });

  test('a batch larger than the whole outbox is dropped', () => {
    const outbox = outboxWith([], { bytesMax: 200 });
    outbox.add(batch('a', 201), 0);
    expect([outbox.rows, outbox.droppedRows.outbox_full]).toEqual([0, 10]);
  });

  test('a refused batch leaves, counted under its own reason', () => {
    const outbox = outboxWith(['a']);
    outbox.takeNext(0);
    outbox.refused('a');
    outbox.refused('a');
    expect([outbox.rows, outbox.bytes, outbox.droppedRows.refused]).toEqual([0, 0, 10]);
  });

  test('an acknowledgement that arrives after the connection is lost still counts, once', () => {
    const outbox = outboxWith(['a']);
    outbox.takeNext(0);
    outbox.disconnected();
    expect(outbox.acknowledged('a')).toBe(true);
    expect(outbox.acknowledged('a')).toBe(false);
    outbox.failed('a');
    expect(outbox.rows).toBe(0);
  });
});

const idsOf = (records: readonly SpoolRecord[]): string[] => records.map(({ id }) => id);

describe('Outbox with a spool', () => {
  test('while disconnected, what is a second old goes to disk, oldest first, and what is younger stays', () => {
    const outbox = outboxWith([], { connected: false });
    outbox.add(batch('a'), 0);
    outbox.add(batch('b'), 500);
    expect(outbox.takeForSpool(999, 'waiting')).toEqual([]);
    expect(idsOf(outbox.takeForSpool(1_499, 'waiting'))).toEqual(['a']);
    expect(outbox.takeForSpool(9_000, 'waiting'), 'one commit at a time').toEqual([]);
    expect([outbox.rows, outbox.spool.waitingRows, outbox.exposedRows], 'in memory until it is durable').toEqual([20, 0, 20]);
    outbox.spooled();
    expect([outbox.rows, outbox.spool.waitingRows, outbox.exposedRows]).toEqual([10, 10, 10]);
  });

  test('memory above its half goes to disk whatever its age; at its half exactly it does not', () => {
    const outbox = outboxWith(['a', 'b', 'c', 'd', 'e'], { bytesMax: 1_000 });
    expect(outbox.takeForSpool(0, 'memory')).toEqual([]);
    outbox.add(batch('f'), 0);
    expect(idsOf(outbox.takeForSpool(0, 'memory'))).toEqual(['a']);
  });

  test('a write that failed changes nothing: the batches are backlog again, in their place', () => {
    const outbox = outboxWith(['a', 'b'], { connected: false, inFlightMax: 9 });
    expect(idsOf(outbox.takeForSpool(1_000, 'waiting'))).toEqual(['a', 'b']);
    outbox.connected();
    expect(outbox.takeNext(1_000), 'being written').toBeNull();
    outbox.notSpooled();
    expect([outbox.takeNext(1_000)?.id, outbox.takeNext(1_000)?.id]).toEqual(['a', 'b']);
  });

  test('fresh first, then memory, then disk; positions count rows, and files go only below what is not acknowledged', () => {
    const outbox = outboxWith([], { connected: false, inFlightMax: 9 });
    for (const id of ['a', 'b']) outbox.add(batch(id), 0);
    const records = outbox.takeForSpool(1_000, 'waiting');
    expect(records.map(({ seq }) => seq)).toEqual([0, 10]);
    outbox.spooled();
    outbox.add(batch('c'), 1_000);
    expect(outbox.loadBytes, 'nothing is read while disconnected').toBe(0);
    outbox.connected();
    expect(outbox.loadBytes, 'memory first').toBe(0);
    expect(outbox.takeNext(1_100)?.id).toBe('c');
    expect(outbox.loadBytes).toBe(250);
    expect(outbox.loaded(records, 1_100)).toBe(true);
    outbox.add(batch('d'), 1_100);
    const taken = [outbox.takeNext(1_100), outbox.takeNext(1_100), outbox.takeNext(1_100)];
    expect(taken.map((one) => [one?.id, isLate(one)])).toEqual([
      ['d', false],
      ['a', true],
      ['b', true],
    ]);
    outbox.acknowledged('b');
    expect([outbox.spool.doneBelow, outbox.spool.waitingRows]).toEqual([0, 0]);
    outbox.acknowledged('a');
    expect(outbox.spool.doneBelow).toBe(20);
  });

  test('one place is always free for the fresh, and the backlog under way is small', () => {
    const outbox = outboxWith(['a', 'b', 'c'], { connected: false, inFlightMax: 3 });
    outbox.connected();
    expect([outbox.takeNext(0)?.id, outbox.takeNext(0)?.id, outbox.takeNext(0)]).toEqual(['a', 'b', null]);
    outbox.add(batch('d'), 0);
    expect(outbox.takeNext(0)?.id).toBe('d');
    const large = outboxWith([], { connected: false, inFlightMax: 9, bytesMax: 1_000_000 });
    for (const [id, bytes] of [
      ['a', 200_000],
      ['b', 62_144],
      ['c', 100],
    ] as const)
      large.add(batch(id, bytes), 0);
    large.connected();
    expect([large.takeNext(0)?.id, large.takeNext(0)?.id, large.takeNext(0)]).toEqual(['a', 'b', null]);
  });

  test('what has waited a second while connected is fresh no longer', () => {
    const outbox = outboxWith(['a']);
    outbox.add(batch('b'), 500);
    const taken = [outbox.takeNext(1_000), outbox.takeNext(1_000)];
    expect(taken.map((one) => [one?.id, isLate(one)])).toEqual([
      ['b', false],
      ['a', true],
    ]);
  });

  test('what is read takes no more memory than there is; the rest is read again, and what can never fit is counted', () => {
    const outbox = outboxWith([], { bytesMax: 250 });
    outbox.spool.opened(0, 40);
    const records = [batch('a'), batch('b', 251), batch('c'), batch('d')].map((one, i) => ({ ...one, seq: 10 * i }));
    expect(outbox.loaded(records, 0)).toBe(false);
    expect([outbox.bytes, outbox.spool.read, outbox.droppedRows.outbox_full]).toEqual([200, 30, 10]);
    outbox.takeNext(0);
    outbox.acknowledged('a');
    expect(outbox.loaded(records, 0)).toBe(true);
    expect([outbox.bytes, outbox.spool.read, outbox.spool.doneBelow]).toEqual([200, 40, 20]);
  });

  test('nothing is lost of what was never there: a position beyond the end counts to the end', () => {
    const outbox = outboxWith([]);
    outbox.spool.opened(10, 20);
    expect(outbox.spool.discardBelow(99, 'spool_lost')).toBe(10);
    expect([outbox.spool.waitingRows, outbox.spool.read]).toEqual([0, 20]);
  });

  test('what was found is accounted for; holes and deleted segments are rows lost, counted by their positions', () => {
    const outbox = outboxWith([]);
    outbox.spool.opened(100, 200);
    expect([outbox.spool.foundRows, outbox.spool.waitingRows]).toEqual([100, 100]);
    const record = (seq: number) => ({ ...batch(`x${seq}`), seq });
    outbox.loaded([record(100), record(130)], 0);
    expect(outbox.droppedRows).toEqual({ outbox_full: 0, refused: 0, spool_full: 0, spool_lost: 20 });
    outbox.spool.discardBelow(170, 'spool_full');
    expect([outbox.droppedRows.spool_full, outbox.spool.waitingRows]).toEqual([30, 30]);
    outbox.loaded([record(150)], 0);
    expect(outbox.rows, 'read before it was deleted, arrives after').toBe(20);
    outbox.spool.opened(0, 230);
    expect([outbox.spool.foundRows, outbox.spool.waitingRows], 'opened again: only what is beyond the known end is new').toEqual([130, 60]);
  });
});

describe('a record of the spool', () => {
  test('reads back as it was written, whatever the names in it', () => {
    const payload = Buffer.from('{"v":1,"host":"\\"ts\\":5","ts":1763678400123,"late":false,"unit":["}}\\n"]}');
    const line = encodeRecord({ seq: 7, id: 'h=20:b00:3:1', rows: 4, payload });
    const padded = Buffer.concat([Buffer.from('xx\n'), line]);
    expect(decodeRecord(padded, 3, padded.length - 1)).toEqual({ seq: 7, id: 'h=20:b00:3:1', rows: 4, payload });
    expect(spoolFormat.seqOf(padded, 3, padded.length - 1)).toBe(7);
    expect(spoolFormat.timeOf(padded, 3, padded.length - 1)).toBe(1_763_678_400_123);
    expect(line.indexOf('\n')).toBe(line.length - 1);
    expect((JSON.parse(line.toString()) as { batch: unknown }).batch).toEqual(JSON.parse(payload.toString()));
  });

  test.each(['{"seq":1}', '{"seq":1,"id":"a:b:1","rows":1,"batch":null}', '', '[]', '{"seq":1,"id":"a:b:1","rows":1,"batch":{"a":1}'])(
    'is not %s',
    (text) => expect(decodeRecord(Buffer.from(text), 0, text.length)).toBeNull(),
  );
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
