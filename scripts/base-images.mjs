// The images that the stack is built on: those that are named, else the public ones, else local ones from Debian's packages and
// this machine's own Node, with its certificates and proxies, so that building reaches what this machine reaches.

import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { aptInstall, has, requireDebianRoot, run } from './docker-engine.mjs';
import { ROOT } from './setup.mjs';

const LOCAL_NODE = 'spillway-test-node:local';
const LOCAL_NATS = 'spillway-test-nats:local';
const PULL_MS_MAX = 180_000;
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
const PROXY_VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy'];

/**
 * @param engine of docker-engine.mjs
 * @param directory for temporary files
 * @returns `env`: the variables of docker-compose.yml that name the images, and what fits them; `remove`: ends what was made here
 * @throws with a sentence when they can neither be pulled nor made
 */
export async function baseImages(engine, directory) {
  const env = { ...process.env, ...engine.env };
  const nothingToRemove = () => undefined;
  if (env.SPILLWAY_NODE_IMAGE !== undefined && env.SPILLWAY_NATS_IMAGE !== undefined) return { env: {}, remove: nothingToRemove };
  const missing = publicImages().filter((image) => !isPulled(image, env));
  if (missing.length === 0) return { env: {}, remove: nothingToRemove };
  requireDebianRoot(`${missing.join(' and ')} cannot be pulled`);
  makeLocalImages(join(directory, 'root'), env);
  return {
    env: {
      SPILLWAY_NODE_IMAGE: LOCAL_NODE,
      SPILLWAY_NATS_IMAGE: LOCAL_NATS,
      SPILLWAY_NATS_CONFIG: './deploy/nats/nats-2.9.conf', // Debian's
      SPILLWAY_BUILD_NETWORK: 'host',
    },
    remove: () => void spawnSync('docker', ['rmi', '--force', LOCAL_NODE, LOCAL_NATS], { env, stdio: 'ignore' }),
  };
}

/** The defaults in docker-compose.yml. */
function publicImages() {
  const compose = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
  return [...new Set([...compose.matchAll(/image: \$\{SPILLWAY_(?:NODE|NATS)_IMAGE:-([^}]+)\}/g)].map((match) => match[1]))];
}

function isPulled(image, env) {
  const succeeds = (...args) => spawnSync('docker', args, { env, stdio: 'ignore', timeout: PULL_MS_MAX }).status === 0;
  return succeeds('image', 'inspect', image) || succeeds('pull', '--quiet', image);
}

function makeLocalImages(root, env) {
  if (!has('debootstrap')) aptInstall(['debootstrap']);
  console.error('Making local base images (debootstrap)…');
  const packages = 'ca-certificates,nats-server,wget';
  run('debootstrap', ['--variant=minbase', `--include=${packages}`, 'bookworm', root]);
  copyNode(root);
  copyFileSync(CERTIFICATES, join(root, CERTIFICATES));
  for (const cache of ['var/cache/apt', 'var/lib/apt/lists']) rmSync(join(root, cache), { recursive: true });
  const variables = { NODE_EXTRA_CA_CERTS: CERTIFICATES };
  for (const name of PROXY_VARIABLES) if (process.env[name] !== undefined) variables[name] = process.env[name];
  const settings = Object.entries(variables).map(([name, value]) => `ENV ${name}=${JSON.stringify(value)}`);
  importImage(root, LOCAL_NODE, settings, env);
  importImage(root, LOCAL_NATS, ['ENTRYPOINT ["nats-server"]'], env);
  rmSync(root, { recursive: true });
}

/** As in the public image: node and npm in the path, and a user `node`. */
function copyNode(root) {
  copyFileSync(process.execPath, join(root, 'usr/bin/node'));
  const npm = dirname(dirname(realpathSync(process.env.npm_execpath ?? run('which', ['npm']).trim())));
  mkdirSync(join(root, 'usr/lib/node_modules'));
  cpSync(npm, join(root, 'usr/lib/node_modules/npm'), { recursive: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/bin/npm'));
  run('chroot', [root, 'useradd', '--create-home', 'node']);
  run('chroot', [root, 'node', '--version']);
}

function importImage(root, name, settings, env) {
  const changes = settings.map((setting) => `--change '${setting}'`).join(' ');
  run('bash', ['-o', 'pipefail', '-c', `tar -C '${root}' -c . | docker import ${changes} - ${name}`], { env });
}
