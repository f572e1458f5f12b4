// The configuration of the nats-server that `spillway up` runs for itself, on a free loopback port.

import { writeFileSync } from 'node:fs';
import { encodeToken } from '#shared/contract/series';
import type { Config } from '#shared/runtime/config';
import { freePort } from '#shared/runtime/free-port';
import type { UpDirectory } from './up-directory.ts';

const HOST = '127.0.0.1';
// Streams are accounted with their message overhead, and the server refuses one that would not fit whole.
const STORE_MARGIN = 1.1;
const STORE_MARGIN_BYTES = 64 * 1024 * 1024;
const MEMORY_STORE_BYTES = 64 * 1024 * 1024;

/** Writes the configuration for a free loopback port. @returns the address */
export async function configureOwnNats(directory: UpDirectory, config: Config): Promise<string> {
  const port = await freePort();
  writeFileSync(directory.natsConfigFile, natsConfig(directory, config, port), { mode: 0o600 });
  return `nats://${HOST}:${port}`;
}

export function natsConfig(directory: UpDirectory, config: Config, port: number): string {
  const { samples_max_bytes, evicted_max_bytes } = config.nats;
  const streamBytes = config.shards * (samples_max_bytes + evicted_max_bytes);
  return `# Written by \`spillway up\` at each start.
server_name: ${JSON.stringify(`spillway-${encodeToken(config.host)}`)}
host: ${HOST}
port: ${port}
jetstream {
  store_dir: ${JSON.stringify(directory.natsData)}
  max_file_store: ${Math.ceil(streamBytes * STORE_MARGIN) + STORE_MARGIN_BYTES}
  max_memory_store: ${MEMORY_STORE_BYTES}
}
`;
}
