// One process for each directory: who is refused, who takes over, and what is left behind.

import { readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DirectoryInUseError, lockDirectory } from '#shared/runtime/directory-lock';
import { identityOf } from '#shared/runtime/process-identity';
import { realDisk } from '#shared/segments/disk';
import { DirectoryRefusedError } from '#shared/segments/segment-errors';
import { FaultyDisk, removeDirectory, temporaryDirectory } from '../support/segment-disk.ts';
import { endProcess, endProcesses, startProcess } from '../support/test-processes.ts';

let parent: string;
let directory: string;
beforeEach(() => {
  parent = temporaryDirectory();
  directory = join(parent, '0');
});
afterEach(async () => {
  await endProcesses();
  removeDirectory(parent);
});

const lock = () => lockDirectory(directory, realDisk);
const locksIn = (folder: string) => readdirSync(folder).filter((name) => name.startsWith('.lock-'));
const startOf = (pid: number): string => `${identityOf(pid).start_ticks}`;

/** The lock of another process, made from ours: the same directory and machine. */
async function lockOf(pid: number, start: string, machine?: string): Promise<string> {
  const own = await lock();
  const [, place, ours] = (locksIn(parent)[0] ?? '').split('-');
  await own.release();
  const name = `.lock-${place}-${machine ?? ours}-${pid}-${start}`;
  writeFileSync(join(parent, name), '');
  return name;
}

describe('a directory lock', () => {
  test('is beside the directory, refuses a second one, and goes when it is released', async () => {
    const first = await lock();
    expect(readdirSync(directory)).toEqual([]);
    expect(locksIn(parent)).toHaveLength(1);
    await expect(lock()).rejects.toThrow(DirectoryInUseError);
    await expect(lockDirectory(`${directory}1`, realDisk).then((other) => other.release())).resolves.toBeUndefined();
    await first.release();
    expect(locksIn(parent)).toEqual([]);
    await (await lock()).release();
  });

  test('of a process that lives refuses, and says which; once it is killed it is taken over', async () => {
    const holder = startProcess('sleep', ['1000']);
    const name = await lockOf(holder.pid, startOf(holder.pid));
    await expect(lock()).rejects.toThrow(`${directory} is in use by process ${holder.pid}: two would damage what is in it`);
    expect(locksIn(parent), 'the refused one leaves nothing').toEqual([name]);
    await endProcess(holder);
    const taken = await lock();
    expect(locksIn(parent)).toHaveLength(1);
    expect(locksIn(parent)).not.toContain(name);
    await taken.release();
  });

  test('of a process whose id was used again is taken over', async () => {
    const other = startProcess('sleep', ['1000']);
    await lockOf(other.pid, `${Number(startOf(other.pid)) + 1}`);
    await (await lock()).release();
    expect(locksIn(parent)).toEqual([]);
  });

  test('of another machine counts while it is touched', async () => {
    const name = await lockOf(1, '5', '00000000');
    await expect(lock()).rejects.toThrow(/in use by process 1 of another machine or container/);
    const longAgo = new Date(Date.now() - 60_000);
    utimesSync(join(parent, name), longAgo, longAgo);
    await (await lock()).release();
    expect(locksIn(parent)).toEqual([]);
  });

  test('is taken over on a full disk, which has no room for a new file', async () => {
    const dead = await lockOf(2 ** 22 + 1, '5');
    const { ino } = statSync(join(parent, dead));
    const taken = await lock();
    expect(
      locksIn(parent).map((name) => statSync(join(parent, name)).ino),
      'the same file under another name',
    ).toEqual([ino]);
    await taken.release();
  });

  test('where none can be made is refused with a sentence', async () => {
    writeFileSync(directory, 'a file');
    await expect(lock()).rejects.toThrow(DirectoryRefusedError);
    await expect(lockDirectory(join(parent, 'x'), new FaultyDisk(1, 'ENOSPC'))).rejects.toThrow(/ENOSPC/);
  });
});
