// `.spillway/` in the working directory: everything that `spillway up` keeps, and the file by which commands in the same
// directory find its NATS. The file names a process; when that has ended, whatever way, it says nothing any more.

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { identityOf, isAlive, type ProcessIdentity } from '#shared/runtime/process-identity';

export interface UpDirectory {
  readonly root: string;
  /** Names the running `up`. */
  readonly upFile: string;
  /** Configuration in force for its services. */
  readonly configFile: string;
  readonly natsConfigFile: string;
  readonly natsData: string;
  readonly spill: string;
  readonly spool: string;
  readonly logs: string;
  readonly run: string;
}

export function upDirectory(cwd: string): UpDirectory {
  const root = join(cwd, '.spillway');
  return {
    root,
    upFile: join(root, 'up.json'),
    configFile: join(root, 'spillway.yaml'),
    natsConfigFile: join(root, 'nats.conf'),
    natsData: join(root, 'nats'),
    spill: join(root, 'spill'),
    spool: join(root, 'spool'),
    logs: join(root, 'logs'),
    run: join(root, 'run'),
  };
}

/** What `up.json` says. */
export interface RunningUp extends ProcessIdentity {
  readonly nats: readonly string[];
}

/** The `up` that runs in this directory, or null. */
export function runningUp(directory: UpDirectory): RunningUp | null {
  try {
    const up = JSON.parse(readFileSync(directory.upFile, 'utf8')) as RunningUp;
    return isAlive(up) ? up : null;
  } catch {
    return null;
  }
}

/** Takes the directory for this process. @returns the `up` that has it already, or null when it is ours now. */
export function claimUpDirectory(directory: UpDirectory): RunningUp | null {
  for (const path of [directory.root, directory.natsData, directory.logs, directory.run]) mkdirSync(path, { recursive: true });
  const claim = JSON.stringify({ ...identityOf(process.pid), nats: [] });
  for (;;) {
    try {
      writeFileSync(directory.upFile, claim, { flag: 'wx', mode: 0o600 });
      return null;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const running = runningUp(directory);
    if (running !== null) return running;
    rmSync(directory.upFile, { force: true }); // left behind by one that was killed
  }
}

export function announceUp(directory: UpDirectory, nats: readonly string[]): void {
  writeWhole(directory.upFile, JSON.stringify({ ...identityOf(process.pid), nats }));
}

/** Gives the directory back. */
export function releaseUpDirectory(directory: UpDirectory): void {
  rmSync(directory.upFile, { force: true });
}

/** A reader sees the old content or the new, never a part. */
export function writeWhole(path: string, content: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content, { mode: 0o600 });
  renameSync(temporary, path);
}
