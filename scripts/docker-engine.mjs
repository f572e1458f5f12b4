// A Docker engine for tests: the one that answers, else one of our own, installed from Debian's packages where that is possible.
// Our own lives in a temporary directory and in namespaces of its own: killing one process ends it with all that it runs, and
// no mount is left. It touches no firewall: containers reach each other and published ports, and nothing outside.

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const START_MS_MAX = 60_000;
const PACKAGES = ['docker.io', 'docker-compose'];

/**
 * @returns `env`: variables with which `docker` and compose reach it; SPILLWAY_TEST_COMPOSE is the compose program.
 *          `stop`: ends what was started here.
 * @throws with a sentence when there is none and none can be had
 */
export async function dockerEngine(directory) {
  const found = answering();
  if (found !== null) return found;
  requireDebianRoot('no Docker engine answers');
  if (!(has('dockerd') && composeProgram() !== null)) {
    aptInstall(PACKAGES);
    // Where there is a service manager, installing has started one.
    const installed = answering();
    if (installed !== null) return installed;
  }
  return startEngine(directory);
}

/** Installs Debian packages. @throws when that fails */
export function aptInstall(packages) {
  console.error(`Installing ${packages.join(', ')} (apt-get)…`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-qq'], { env });
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], { env });
}

/** @throws on every other system */
export function requireDebianRoot(problem) {
  if (process.getuid?.() !== 0 || !isDebian()) throw new Error(`${problem}, and only root on Debian can help itself`);
}

export function has(program) {
  return spawnSync('which', [program], { stdio: 'ignore' }).status === 0;
}

/** @returns what it printed. @throws with what it said, when it fails */
export function run(program, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, ...options });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

function answering() {
  const compose = composeProgram();
  if (compose === null || spawnSync('docker', ['version'], { stdio: 'ignore' }).status !== 0) return null;
  return { env: { SPILLWAY_TEST_COMPOSE: compose }, stop: () => undefined };
}

/** "docker compose" (version 2 and later) or "docker-compose" (1.29); null when there is neither. */
function composeProgram() {
  const named = process.env.SPILLWAY_TEST_COMPOSE;
  if (named !== undefined) return named;
  const programs = ['docker compose', 'docker-compose'];
  return programs.find((name) => spawnSync(`${name} version`, { shell: true, stdio: 'ignore' }).status === 0) ?? null;
}

async function startEngine(directory) {
  console.error('Starting a Docker engine…');
  const host = `unix://${join(directory, 'docker.sock')}`;
  const logPath = join(directory, 'dockerd.log');
  const log = openSync(logPath, 'a');
  const paths = ['data', 'exec'].map((name) => `--${name}-root=${join(directory, name)}`);
  const network = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'];
  const dockerd = ['dockerd', ...paths, `--pidfile=${join(directory, 'pid')}`, `--host=${host}`, ...network];
  const namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
  // Ends with us, however we end. The first process of the namespace has to wait for the orphans of the others.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...namespaces, 'docker-init', '-s', '--', ...dockerd], {
    stdio: ['ignore', log, log],
    detached: true, // Ctrl-C is for the tests: what they have started has to be removed first
  });
  closeSync(log);
  const ended = new Promise((resolve) => {
    child.once('error', resolve);
    child.once('exit', resolve);
  });
  const env = { DOCKER_HOST: host, SPILLWAY_TEST_COMPOSE: composeProgram() };
  const docker = (...args) => run('docker', args, { env: { ...process.env, ...env } });
  const stop = async () => {
    try {
      const containers = docker('ps', '--all', '--quiet').split('\n').filter(Boolean);
      if (containers.length > 0) docker('rm', '--force', ...containers);
      docker('network', 'prune', '--force'); // a network is a device of the machine
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
  };
  try {
    await answers(docker, child, logPath);
  } catch (error) {
    child.kill('SIGKILL');
    await ended;
    throw error;
  }
  // It has no way out for containers that are built.
  return { env: { ...env, SPILLWAY_BUILD_NETWORK: 'host' }, stop };
}

async function answers(docker, child, logPath) {
  for (const deadlineMs = Date.now() + START_MS_MAX; ; ) {
    try {
      return docker('version');
    } catch (error) {
      const lastWords = readFileSync(logPath, 'utf8').trim().split('\n').slice(-3).join('\n');
      if (child.exitCode !== null) throw new Error(`dockerd ended with ${child.exitCode}: ${lastWords}`);
      if (Date.now() > deadlineMs) throw new Error(`dockerd does not answer: ${error.message}\n${lastWords}`);
    }
    await delay(200);
  }
}

function isDebian() {
  try {
    return /^ID(_LIKE)?=.*debian/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}
