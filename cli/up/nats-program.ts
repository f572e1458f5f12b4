// Where the nats-server program is: the variable, the path, Debian's place; on Debian as root it is installed when it is nowhere.

import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { CommandFailure } from '../failure.ts';
import { say } from '../output.ts';

const DEBIAN_PLACE = '/usr/sbin/nats-server';
const HOW_TO_GET =
  'nats-server was not found. Install it (Debian: apt-get install nats-server; others: https://docs.nats.io/running-a-nats-service/introduction/installation), or name it with NATS_SERVER=/path/to/nats-server, or use a server that runs with nats.servers.';

/** @throws {CommandFailure} when there is none and it cannot be installed */
export async function findNatsProgram(env: NodeJS.ProcessEnv): Promise<string> {
  const named = env['NATS_SERVER'];
  if (named !== undefined && named !== '') {
    if (isExecutable(named)) return named;
    throw new CommandFailure(`NATS_SERVER: ${named} is not a program that can be run`);
  }
  const found = findInPath(env);
  if (found !== null) return found;
  if (process.getuid?.() !== 0 || !isDebian()) throw new CommandFailure(HOW_TO_GET);
  return installOnDebian();
}

function findInPath(env: NodeJS.ProcessEnv): string | null {
  const directories = (env['PATH'] ?? '').split(delimiter).filter((directory) => directory !== '');
  return [...directories.map((directory) => join(directory, 'nats-server')), DEBIAN_PLACE].find(isExecutable) ?? null;
}

async function installOnDebian(): Promise<string> {
  say('nats-server is not installed; installing it with apt-get (apt-get update && apt-get install -y nats-server)');
  await run('apt-get', ['update', '-qq']);
  await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'nats-server']);
  if (!isExecutable(DEBIAN_PLACE)) throw new CommandFailure(HOW_TO_GET);
  return DEBIAN_PLACE;
}

function run(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0 ? resolve() : reject(new CommandFailure(`${program} ${args.join(' ')} ended with ${code}. ${HOW_TO_GET}`)),
    );
  });
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isDebian(): boolean {
  try {
    return /^ID(_LIKE)?=.*debian/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}
