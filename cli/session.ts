// How a command gets at a running Spillway: which configuration holds, where NATS is, and a connection for as long as it takes.
// An address that was given wins; else the `spillway up` of this directory; else the usual port of this machine.

import { resolve } from 'node:path';
import { SpillwayClient } from '#client/client';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { type Config, loadConfig } from '#shared/runtime/config';
import { createLogger } from '#shared/runtime/logging';
import { runningUp, upDirectory } from './up/up-directory.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly config?: string;
  readonly json?: boolean;
  readonly server?: string;
}

const CONNECT_MS_MAX = 3_000;
/** Of one request: a busy machine may need seconds to read a page of the spill; that nobody is there is known at once. */
const ANSWER_MS_MAX = 10_000;

/** The configuration for a service: file, variables, options. */
export function serviceConfig(options: GlobalOptions): Config {
  return loadConfig({ file: options.config, env: environment(options), cwd: process.cwd() });
}

/** The configuration for a command: the one in force for the `spillway up` of this directory, unless another NATS is named. */
export function commandConfig(options: GlobalOptions): Config {
  const config = serviceConfig(options);
  if (config.given.has('nats.servers')) return config;
  const directory = upDirectory(process.cwd());
  const up = runningUp(directory);
  if (up === null || up.nats.length === 0) return config;
  const env = environment(options);
  const isFileNamed = options.config !== undefined || env['SPILLWAY_CONFIG'] !== undefined;
  return isFileNamed
    ? loadConfig({ file: options.config, env: { ...env, SPILLWAY_NATS_SERVERS: up.nats.join(',') }, cwd: process.cwd() })
    : loadConfig({ file: directory.configFile, env, cwd: process.cwd() });
}

/** Variables, with the options that stand for one. */
export function environment(options: GlobalOptions): NodeJS.ProcessEnv {
  return options.server === undefined ? process.env : { ...process.env, SPILLWAY_NATS_SERVERS: options.server };
}

export async function withClient<T>(options: GlobalOptions, use: (client: SpillwayClient, config: Config) => Promise<T>): Promise<T> {
  const config = commandConfig(options);
  const link = await connectForCommand(config);
  try {
    return await use(new SpillwayClient(link, { shards: config.shards, timeoutMs: ANSWER_MS_MAX }), config);
  } finally {
    await link.close();
  }
}

function connectForCommand(config: Config): Promise<NatsLink> {
  return connectNats(config.nats, {
    name: 'spillway command',
    logger: createLogger('command', 'silent'),
    signal: new AbortController().signal,
    giveUpAfterMs: CONNECT_MS_MAX,
  });
}

/** For messages: a path as the reader can use it from here. */
export function fromHere(path: string): string {
  const here = `${process.cwd()}/`;
  return resolve(path).startsWith(here) ? resolve(path).slice(here.length) : path;
}
