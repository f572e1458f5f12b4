// One process for each directory of segments. A lock is an empty file beside the directory whose name says who holds it, so that making
// it is one step, and removing a dead holder's can never hit the lock of a living one:
//
//   .lock-<hash of the directory's name>-<hash of the machine>-<pid>-<start, clock ticks since boot>
//
// Whoever wants the directory makes its own file first and looks for others second, so of two that start together at least one sees
// the other and withdraws. A holder that was killed needs no clearing up: its id and start time name no process any more. A holder
// in another container or on another machine cannot be looked up; it counts as alive while it touches its file.

import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { access, constants, open, readdir, rename, stat, unlink, utimes } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Disk, isMissing } from '#shared/segments/disk';
import { makeDirectory } from '#shared/segments/segment-directory';
import { typedOpenError } from '#shared/segments/segment-errors';
import { identityOf, isAlive } from './process-identity.ts';
import { pause } from './wait.ts';

const TOUCH_MS = 5_000;
/** A process that cannot be looked up is gone when it has not touched its lock for so long. */
const SILENCE_MS_MAX = 30_000;
const ATTEMPTS_MAX = 5;
const ATTEMPT_PAUSE_MS = 100;

export interface DirectoryLock {
  /** Never rejects. */
  release(): Promise<void>;
}

/** Another process has the directory. */
export class DirectoryInUseError extends Error {
  constructor(path: string, holder: string) {
    super(`${path} is in use by ${holder}: two would damage what is in it. Stop that one, or give this one a directory of its own`);
    this.name = 'DirectoryInUseError';
  }
}

/**
 * Makes the directory if it is not there, and takes it for this process.
 * @throws {DirectoryInUseError} if another process has it
 * @throws what opening segments there would throw, if no file can be made in it
 */
export async function lockDirectory(path: string, disk: Disk): Promise<DirectoryLock> {
  try {
    await makeDirectory({ path, disk });
    await access(path, constants.W_OK); // not found out by the first write, which would end the process
    const place = { folder: dirname(resolve(path)), prefix: `.lock-${hashed(basename(resolve(path)))}-` };
    for (let attempt = 1; ; attempt++) {
      const holder = await take(place);
      if (holder === null) return held(place);
      if (attempt === ATTEMPTS_MAX) throw new DirectoryInUseError(path, holder);
      // Two that start together both withdraw: they must not meet again.
      await pause(ATTEMPT_PAUSE_MS * (0.5 + Math.random()));
    }
  } catch (error) {
    throw error instanceof DirectoryInUseError ? error : typedOpenError(path, error);
  }
}

/** Where the locks of a directory are, and how their names begin. */
interface Place {
  readonly folder: string;
  readonly prefix: string;
}

/** @returns who has it, or null when it is ours */
async function take(place: Place): Promise<string | null> {
  const { folder } = place;
  const own = ownName(place);
  const found = await locks(place);
  if (found.includes(own)) return 'this very process';
  let isMade: boolean | undefined = false;
  for (const name of found) {
    if ((await holderOf(place, name)) !== null) continue;
    // Renamed where possible: a full disk has no room for a new file.
    if (isMade) await unlink(join(folder, name)).catch(ignoreMissing);
    else isMade = await rename(join(folder, name), join(folder, own)).then(() => true, ignoreMissing);
  }
  if (!isMade) await (await open(join(folder, own), 'wx', 0o600)).close();
  for (const name of await locks(place)) {
    const holder = name === own ? null : await holderOf(place, name);
    if (holder === null) continue;
    await unlink(join(folder, own)).catch(ignoreMissing);
    return holder;
  }
  return null;
}

function held(place: Place): DirectoryLock {
  const file = join(place.folder, ownName(place));
  const touch = (): void => {
    const now = new Date();
    // Somebody may have cleared the directory, or it is out of reach: nothing that the owner of the files would not notice by himself.
    void utimes(file, now, now).catch(() => undefined);
  };
  touch();
  const timer = setInterval(touch, TOUCH_MS).unref();
  return {
    release: async () => {
      clearInterval(timer);
      await unlink(file).catch(() => undefined);
    },
  };
}

const HOLDER = /^([0-9a-f]{8})-(\d{1,10})-(\d{1,16})$/;

async function locks({ folder, prefix }: Place): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.startsWith(prefix) && HOLDER.test(name.slice(prefix.length)));
}

/** Who holds a lock, in words; null when nobody does any more. */
async function holderOf({ folder, prefix }: Place, name: string): Promise<string | null> {
  const [, machine, pid, start] = HOLDER.exec(name.slice(prefix.length)) as RegExpExecArray;
  if (machine === machineName()) {
    const identity = { pid: Number(pid), start_ticks: start === '0' ? null : Number(start) };
    return isAlive(identity) ? `process ${pid}` : null;
  }
  const touchedMs = await stat(join(folder, name)).then(({ mtimeMs }) => mtimeMs, ignoreMissing);
  const isSilent = touchedMs === undefined || Date.now() - touchedMs > SILENCE_MS_MAX;
  return isSilent ? null : `process ${pid} of another machine or container`;
}

function ownName({ prefix }: Place): string {
  return `${prefix}${machineName()}-${process.pid}-${identityOf(process.pid).start_ticks ?? 0}`;
}

/** Within it, a process id and a start time name one process: one boot of a machine, and in it one space of process ids. */
function machineName(): string {
  let scope: string;
  try {
    scope = `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')}${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    scope = 'no /proc';
  }
  return hashed(scope);
}

function hashed(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 8);
}

function ignoreMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
}
