// The spillover and the segment log on directories as people and accidents leave them: things that are no files, files that are no
// segments, segments that lie. It says what is wrong and goes on with what is good, or says what to do and does not start.

import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { SpilloverInfo } from '#shared/contract/queries';
import { formatRow, rowPrefix } from '#shared/contract/row';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard, logIdentity } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import { type RunningService, SetupError } from '#shared/runtime/service';
import { startSpillover } from '../../services/spillover/main.ts';
import { startStore } from '../../services/store/main.ts';
import { batch, unpackable } from '../support/batches.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { entryOf, LOG, line, openLog, readAll, removeDirectory, sealed, temporaryDirectory } from '../support/segment-disk.ts';

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => removeDirectory(directory));

const digits = (seq: number) => `${seq}`.padStart(16, '0');
const raw = (first: number, log = LOG) => `metrics-${log}-${digits(first)}.jsonl`;
const gz = (first: number, last: number, log = LOG) => `metrics-${log}-${digits(first)}-${digits(last)}.jsonl.gz`;
const at = (name: string) => join(directory, name);
const lines = (...seqs: number[]) => seqs.map((seq) => `${line(seq, 0)}\n`).join('');
const quarantine = () => (readdirSync(directory).includes('quarantine') ? readdirSync(at('quarantine')).sort() : []);
const makeFifo = (path: string) => execFileSync('mkfifo', [path]);

/** Why the file system cannot be mounted or the attribute set; null when it can. Undone by `undo`. */
function attempt(command: string, args: string[]): string | null {
  try {
    execFileSync(command, args, { stdio: 'pipe' });
    return null;
  } catch (error) {
    return error instanceof Error ? (error.message.split('\n')[1] ?? error.message) : String(error);
  }
}

describe('a segment log opens over', () => {
  test('things that are no files, leaves them alone, and does not wait for them', async () => {
    writeFileSync(at(raw(1)), lines(1, 2));
    makeFifo(at(raw(50)));
    makeFifo(at(`${gz(1, 2)}.tmp`));
    mkdirSync(at(gz(60, 61)));
    symlinkSync('nowhere', at(raw(70)));
    symlinkSync(raw(71), at(raw(71)));
    const socket: Server = createServer().listen(at(raw(72)));
    writeFileSync(at('metrics-1-2.jsonl'), 'x');
    writeFileSync(at(`${raw(1)}~`), 'x');
    writeFileSync(at('notes.txt'), 'x');
    const others = readdirSync(directory).filter((name) => name !== raw(1));
    const { log, events } = await openLog(directory, { segmentBytesMax: 60 });
    await log.append([entryOf(3, 1)]); // a new segment, so that the first is to be sealed
    await eventually(() => expect(events).toMatchObject([{ event: 'sealing_put_off', name: raw(1) }]));
    expect(await readAll(log)).toEqual(lines(1, 2, 3).split('\n').slice(0, -1));
    await log.close();
    socket.close();
    expect(readdirSync(directory)).toEqual(expect.arrayContaining(others.filter((name) => name !== raw(72))));
    expect(quarantine()).toEqual([]);
  });

  test.each([
    ['a FIFO', (path: string) => makeFifo(path)],
    ['a directory', (path: string) => mkdirSync(path)],
    ['a dangling link', (path: string) => symlinkSync('nowhere', path)],
    ['a link to itself', (path: string) => symlinkSync(path, path)],
  ])('%s under the name of the next segment, which is moved aside', async (_, make) => {
    const { log } = await openLog(directory);
    make(at(raw(1)));
    await log.append([entryOf(1, 1)]);
    await log.close();
    expect(readFileSync(at(raw(1)), 'utf8')).toBe(lines(1));
    expect(quarantine()).toEqual([`${raw(1)}.1`]);
    lstatSync(join(at('quarantine'), `${raw(1)}.1`));
  });

  test('something under the final name of a sealed segment, which is not replaced', async () => {
    mkdirSync(at('other'));
    const { log, events } = await openLog(directory, { segmentBytesMax: 60 });
    await log.append([entryOf(1, 1)]);
    makeFifo(at(gz(1, 1)));
    await log.append([entryOf(2, 1)]);
    await eventually(() =>
      expect(events).toMatchObject([{ event: 'sealing_put_off', problem: expect.stringMatching(/is there already/) }]),
    );
    expect(await readAll(log)).toEqual(lines(1, 2).split('\n').slice(0, -1));
    await log.close();
    expect(lstatSync(at(gz(1, 1))).isFIFO()).toBe(true);
  });

  test('huge files without a line, in little memory, and keeps the good lines before them', async () => {
    for (const name of [raw(1), gz(2, 3)]) {
      const file = openSync(at(name), 'w');
      ftruncateSync(file, 4 * 1024 ** 3);
      closeSync(file);
    }
    writeFileSync(at(gz(4, 9)), gzipSync(Buffer.alloc(64 * 1024 * 1024)));
    writeFileSync(at(raw(10)), lines(10, 11));
    appendFileSync(at(raw(10)), Buffer.alloc(8 * 1024 * 1024));
    const before = process.memoryUsage().rss;
    const { log } = await openLog(directory);
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024);
    expect(quarantine()).toEqual([gz(2, 3), gz(4, 9), raw(1), raw(10)].map((name) => `${name}.1`).sort());
    expect(await readAll(log)).toEqual(lines(10, 11).split('\n').slice(0, -1));
    await log.close();
  });

  test('sealed files that are not what their names say; the good ones stay, and the position is theirs', async () => {
    writeFileSync(at(gz(1, 2)), gzipSync(lines(1, 2)));
    writeFileSync(at(gz(3, 3)), Buffer.concat([gzipSync(lines(3)), Buffer.from('garbage')]));
    writeFileSync(at(gz(4, 900)), gzipSync(''));
    writeFileSync(at(gz(5, 900)), gzipSync(lines(5, 6)));
    writeFileSync(at(gz(6, 900)), gzipSync(lines(7, 900)));
    writeFileSync(at(gz(7, 900)), '');
    writeFileSync(at(gz(8, 900)), 'garbage');
    writeFileSync(at(gz(9, 900)), gzipSync(lines(9, 900)).subarray(0, 30));
    const { log } = await openLog(directory);
    expect(log.position).toEqual({ log: LOG, seq: 2, rowsOfSeq: 1 });
    expect(await readAll(log)).toEqual(lines(1, 2).split('\n').slice(0, -1));
    expect(quarantine()).toEqual([`${gz(3, 3)}.1`, ...[4, 5, 6, 7, 8, 9].map((first) => `${gz(first, 900)}.1`)]);
    await log.close();
  });

  test('a sealed file of ours under a name that promises more', async () => {
    const made = temporaryDirectory();
    const { log: other } = await openLog(made);
    await other.append([entryOf(1, 3), entryOf(2, 3)]);
    await sealed(other);
    await other.close();
    writeFileSync(at(gz(1, 500)), readFileSync(join(made, gz(1, 1))));
    removeDirectory(made);
    const { log } = await openLog(directory);
    expect(log.position).toBeNull();
    expect(quarantine()).toEqual([`${gz(1, 500)}.1`]);
    await log.close();
  });

  test('a sealed file of junk beside the raw one, which stays', async () => {
    writeFileSync(at(raw(1)), lines(1, 2));
    writeFileSync(at(gz(1, 2)), gzipSync('\n'.repeat(10_000)));
    const { log } = await openLog(directory);
    expect(await readAll(log)).toEqual(lines(1, 2).split('\n').slice(0, -1));
    await log.close();
  });

  test('copies within the positions of another, of which each row is left once', async () => {
    writeFileSync(at(gz(1, 6)), gzipSync(lines(1, 2, 3, 4, 5, 6)));
    writeFileSync(at(raw(2)), lines(2, 3));
    writeFileSync(at(gz(4, 6)), gzipSync(lines(4, 5, 6)));
    writeFileSync(at(gz(6, 7)), gzipSync(lines(6, 7))); // a batch that goes on in the next segment
    const { log } = await openLog(directory);
    expect(await readAll(log)).toEqual(lines(1, 2, 3, 4, 5, 6, 6, 7).split('\n').slice(0, -1));
    expect(quarantine()).toEqual([`${gz(4, 6)}.1`, `${raw(2)}.1`].sort());
    await log.close();
  });
});

describe('the spillover', () => {
  let server: TestServer;
  let config: Config;
  let link: NatsLink;
  let log: number;
  const services: RunningService[] = [];
  const undo: (() => void)[] = [];
  beforeAll(async () => {
    server = await startNatsServer();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    config = testConfig({
      SPILLWAY_NATS_SERVERS: server.url,
      SPILLWAY_SPILLOVER_PATH: directory,
      SPILLWAY_MAX_MEMORY_BYTES: '131072',
      SPILLWAY_SAMPLES_MAX_BYTES: '10000000',
      SPILLWAY_EVICTED_MAX_BYTES: '10000000',
    });
    link = await connectTest(config);
    log = logIdentity((await ensureShard(link.jsm, link.subjects, config.nats, 0)).samples);
  });
  afterEach(async () => {
    for (const service of services.splice(0)) await service.stop();
    for (const one of undo.splice(0)) one();
    await link.close();
  });

  const options = () => ({ config, logger: silent, stopping: new AbortController().signal });
  const spillDirectory = () => at('0');
  const units = Array.from({ length: 40 }, (_, i) => `unit-${i}`);
  const rowAt = (seq: number) =>
    `${formatRow(rowPrefix('h1', 'api'), seq, 'running', 1, 2, '2026-01-01T00:00:00.000Z', [1, 2, 3, 4, 5, 6, 7])}\n`;
  async function info(): Promise<SpilloverInfo> {
    return (await link.nc.request(`${link.subjects.spill(0)}.info`, '', { timeout: 5_000 })).json<SpilloverInfo>();
  }
  async function spillSomething(): Promise<void> {
    services.push(await startStore(options()));
    for (let tick = 0; tick < 400; tick++)
      await link.js.publish(
        link.subjects.samples(0, 'h1'),
        JSON.stringify(batch({ tick, units, metrics: { rss_bytes: units.map((_, i) => unpackable(tick, i)) } })),
      );
    await eventually(async () => expect((await info()).position?.seq).toBeGreaterThan(50), { withinMs: 20_000 });
  }

  test('starts over junk, a book of gaps that is a FIFO, and segments of a log of the future; says so, and spills', async () => {
    mkdirSync(spillDirectory());
    const future = 9_000_000_000_000;
    writeFileSync(join(spillDirectory(), raw(1, future)), rowAt(1));
    writeFileSync(join(spillDirectory(), gz(1, 1, future + 1)), gzipSync(rowAt(1)));
    for (const name of ['gaps.jsonl', 'gaps.jsonl.tmp', raw(99, log)]) makeFifo(join(spillDirectory(), name));
    writeFileSync(join(spillDirectory(), 'notes.txt'), 'mine');
    services.push(await startSpillover(options()));
    const { health } = await info();
    expect(health).toMatchObject({
      ready: true,
      problems: [expect.stringMatching(/^2 files could not be read and were moved to .*quarantine: look at them$/)],
    });
    await spillSomething();
    expect((await info()).position?.log).toBe(log);
    expect(readFileSync(join(spillDirectory(), 'notes.txt'), 'utf8')).toBe('mine');
    expect(lstatSync(join(spillDirectory(), 'gaps.jsonl')).isFIFO()).toBe(true);
  });

  const done = (make: () => void) => () => {
    make();
    return null;
  };
  test.for<[string, RegExp, () => string | null]>([
    ['a file in the place of the directory', /ENOTDIR|EEXIST/, done(() => writeFileSync(spillDirectory(), ''))],
    ['a dangling link', /ENOENT|EEXIST/, done(() => symlinkSync('nowhere', spillDirectory()))],
    ['a link to itself', /ELOOP|EEXIST/, done(() => symlinkSync('0', spillDirectory()))],
    [
      'a read-only file system',
      /EROFS.*remount it, or choose another directory/,
      () => {
        mkdirSync(spillDirectory());
        const problem = attempt('mount', ['-t', 'tmpfs', '-o', 'ro', 'spillway-test', spillDirectory()]);
        if (problem === null) undo.push(() => execFileSync('umount', [spillDirectory()]));
        return problem;
      },
    ],
    [
      'a directory that must not be changed',
      /EPERM.*permission/,
      () => {
        mkdirSync(spillDirectory());
        writeFileSync(join(spillDirectory(), raw(1, log)), '{"torn');
        const problem = attempt('chattr', ['+i', spillDirectory()]);
        if (problem === null) undo.push(() => execFileSync('chattr', ['-i', spillDirectory()]));
        return problem;
      },
    ],
    [
      'a file in the place of the quarantine',
      /quarantine/,
      () => {
        mkdirSync(spillDirectory());
        writeFileSync(join(spillDirectory(), 'quarantine'), '');
        writeFileSync(join(spillDirectory(), raw(1, log)), 'junk\n');
        return null;
      },
    ],
  ])('over %s it does not start, and says what and where', async ([, sentence, make], { skip }) => {
    const problem = make();
    if (problem !== null) return skip(`cannot be had here: ${problem}`);
    const started = startSpillover(options());
    await expect(started).rejects.toThrow(SetupError);
    await expect(started).rejects.toThrow(sentence);
    await expect(started).rejects.toThrow(directory);
  });

  test('goes on when a directory was emptied under it, and its lock with it', async () => {
    services.push(await startSpillover(options()));
    await spillSomething();
    rmSync(directory, { recursive: true, force: true });
    const { rows } = (await info()).counters;
    for (let tick = 200; tick < 400; tick++)
      await link.js.publish(
        link.subjects.samples(0, 'h1'),
        JSON.stringify(batch({ tick, units, metrics: { rss_bytes: units.map((_, i) => unpackable(tick, i)) } })),
      );
    await eventually(async () => expect((await info()).counters['rows']).toBeGreaterThan(rows ?? 0), { withinMs: 20_000 });
  });
});
