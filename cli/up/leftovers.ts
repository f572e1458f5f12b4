// Processes that outlived a supervisor that was killed. Services notice by themselves and end soon; a nats-server does not.
// A second one beside them would fight for the same directories, so they are ended and waited for before anything starts.

import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { argumentsOf, identityOf, isAlive, variablesOfProcess } from '#shared/runtime/process-identity';
import { pause } from '#shared/runtime/wait';
import type { UpDirectory } from './up-directory.ts';

const END_DEADLINE_MS = 10_000;
const POLL_MS = 25;
const NATS_PIDFILE = 'nats.pid';

/** @returns names of those that were still there */
export async function endLeftovers(directory: UpDirectory): Promise<string[]> {
  const pidFiles = readdirSync(directory.run).filter((name) => name.endsWith('.pid'));
  // The services hand over what they have while their server is still there.
  const services = await Promise.all(pidFiles.filter((name) => name !== NATS_PIDFILE).map((name) => endLeftover(directory, name)));
  const nats = pidFiles.includes(NATS_PIDFILE) ? [await endLeftover(directory, NATS_PIDFILE)] : [];
  return [...services, ...nats].filter((name) => name !== null);
}

async function endLeftover(directory: UpDirectory, pidFile: string): Promise<string | null> {
  const path = join(directory.run, pidFile);
  const pid = Number(readFileSync(path, 'utf8').trim());
  rmSync(path, { force: true });
  if (!Number.isSafeInteger(pid) || pid < 1 || !isOurs(pid, directory)) return null;
  const leftover = identityOf(pid);
  signal(pid, 'SIGTERM');
  for (let waitedMs = 0; isAlive(leftover); waitedMs += POLL_MS) {
    if (waitedMs >= END_DEADLINE_MS) signal(pid, 'SIGKILL');
    await pause(POLL_MS);
  }
  return pidFile.slice(0, -'.pid'.length);
}

/** The id alone proves nothing, it may belong to anybody by now: what it was started with names our files. */
function isOurs(pid: number, directory: UpDirectory): boolean {
  return argumentsOf(pid).includes(directory.natsConfigFile) || variablesOfProcess(pid).includes(`SPILLWAY_CONFIG=${directory.configFile}`);
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended in the meantime.
  }
}
