// The configuration that holds for the services of `spillway up`: what the user gave, plus what `up` decides itself.
// It is written to one file that the services read, so that everybody in this directory goes by the same words.

import { join } from 'node:path';
import { stringify } from 'yaml';
import { shardOf } from '#shared/contract/series';
import { type Config, type ConfigSource, loadConfig } from '#shared/runtime/config';
import { type UpDirectory, writeWhole } from './up-directory.ts';

/**
 * What the user gave, with the defaults of `up`: a spill and a spool in its directory, and the shard that this host's samples go to.
 * @throws {ConfigError}
 */
export function loadUpConfig(source: ConfigSource, directory: UpDirectory): Config {
  const config = loadConfig(source);
  const { given, metrics } = config;
  const additions: NodeJS.ProcessEnv = {};
  // An explicit null or a budget of 0 says: no spill.
  if (!given.has('metrics.spillover_path') && metrics.spillover_max_bytes > 0) additions['SPILLWAY_SPILLOVER_PATH'] = directory.spill;
  if (!given.has('spool_path') && config.spool_max_bytes > 0) additions['SPILLWAY_SPOOL_PATH'] = directory.spool;
  if (!given.has('shard')) additions['SPILLWAY_SHARD'] = `${shardOf(config.host, config.shards)}`;
  return loadConfig({ ...source, env: { ...source.env, ...additions } });
}

/** Spillway's own processes as units, by the files in which the supervisor keeps their ids. */
export function ownUnits(directory: UpDirectory, names: readonly string[]): Config['units'] {
  return Object.fromEntries(names.map((name) => [name, { pidfile: join(directory.run, `${name}.pid`), tree: true }]));
}

export interface Decisions {
  readonly servers: readonly string[];
  readonly units: Config['units'];
}

export function writeEffectiveConfig(directory: UpDirectory, config: Config, decisions: Decisions): void {
  writeWhole(directory.configFile, effectiveConfig(config, decisions));
}

/** Absolute paths throughout, so it means the same wherever it is read from. */
export function effectiveConfig(config: Config, { servers, units }: Decisions): string {
  const { file: _file, given: _given, ...values } = config;
  // Without a spill its size of segments means nothing and may be one that the schema refuses.
  const { spillover_segment_bytes, ...metrics } = values.metrics;
  const spilling = metrics.spillover_path === null ? metrics : { ...metrics, spillover_segment_bytes };
  const header = '# Written by `spillway up` at each start: the configuration in force for its services. Edit spillway.yaml instead.\n';
  return header + stringify({ ...values, nats: { ...values.nats, servers }, metrics: spilling, units });
}

/** Our variables are in the file already; what is left is everybody else's. */
export function environmentOfServices(env: NodeJS.ProcessEnv, directory: UpDirectory): NodeJS.ProcessEnv {
  const others = Object.entries(env).filter(([name]) => !name.startsWith('SPILLWAY_'));
  return { ...Object.fromEntries(others), SPILLWAY_CONFIG: directory.configFile };
}
