// `spillway status` and `spillway health`: who is there, how they are, and in whose custody the rows are.

import type { Described, SpillwayClient } from '#client/client';
import type { CollectorInfo, Health, SpilloverInfo, StoreInfo } from '#shared/contract/queries';
import type { Config } from '#shared/runtime/config';
import { EXIT_DONE, EXIT_FAILED } from '#shared/runtime/service';
import { type CollectorCustody, type Custody, collectorCustodyLine, collectorCustodyOf, custodyLine, custodyOf } from './custody.ts';
import { UsageFailure } from './failure.ts';
import { print, printJson, say } from './output.ts';
import { SERVICE_NAMES, type ServiceName } from './serve.ts';
import { healthOf } from './service-health.ts';
import { type GlobalOptions, withClient } from './session.ts';
import { formatBytes, formatTable, left, printable, right } from './table.ts';

/** @returns 0 when ready, 1 when not */
export function health(name: string, options: GlobalOptions): Promise<number> {
  if (!isServiceName(name)) throw new UsageFailure(`${printable(name)} is not a service; there are ${SERVICE_NAMES.join(', ')}`);
  return withClient(options, async (client, config) => {
    const found = await healthOf(client, config, name);
    if (options.json) printJson(found);
    else print(`${name} ${found.ready ? 'is ready' : 'is not ready'}\n`);
    for (const problem of found.problems) say(printable(problem));
    return found.ready ? EXIT_DONE : EXIT_FAILED;
  });
}

function isServiceName(name: string): name is ServiceName {
  return (SERVICE_NAMES as readonly string[]).includes(name);
}

export interface ServiceStatus {
  service: ServiceName;
  /** Host of a collector, shard of the others. */
  where: string;
  /** What it does there. */
  role: string;
  version: string;
  rows: number | null;
  bytes: number | null;
  budget_bytes: number | null;
  /** Messages not yet read; batches not yet acknowledged. */
  lag: number;
  counters: Record<string, number>;
  health: Health;
}

export interface Status {
  services: ServiceStatus[];
  custody: Custody[];
  collector_custody: CollectorCustody[];
  /** What should be there and is not, what does not add up, and what the services complain about. */
  problems: string[];
}

/** @returns 0 when all is well, 1 when a service is missing or has a problem, or rows do not add up */
export function status(options: GlobalOptions): Promise<number> {
  return withClient(options, async (client, config) => {
    const found = await readStatus(client, config);
    if (options.json) printJson(found);
    else printStatus(found);
    return found.problems.length === 0 ? EXIT_DONE : EXIT_FAILED;
  });
}

async function readStatus(client: SpillwayClient, config: Config): Promise<Status> {
  // The spillovers first: what they have synced by then, a store has carried.
  const spillovers = await client.spillovers();
  const [stores, collectors] = await Promise.all([client.stores(), client.collectors()]);
  const services = [...collectors.map(collectorStatus), ...stores.map(storeStatus), ...spillovers.map(spilloverStatus)];
  const complaints = services.flatMap(({ service, where, health: own }) => {
    const problems = own.ready || own.problems.length > 0 ? own.problems : ['is not ready'];
    return problems.map((problem) => `${service} ${where}: ${problem}`);
  });
  const custody = custodyOf(stores, spillovers);
  const collectorCustody = collectors.map(({ info }) => collectorCustodyOf(info));
  const unlawful = [
    ...custody.flatMap(({ shard, problem }) => (problem === null ? [] : [`custody of shard ${shard}: ${problem}`])),
    ...collectorCustody.flatMap(({ host, problem }) => (problem === null ? [] : [`custody of collector ${host}: ${problem}`])),
  ];
  return {
    services,
    custody,
    collector_custody: collectorCustody,
    problems: [...missingServices(config, services), ...unlawful, ...complaints],
  };
}

function collectorStatus({ version, info }: Described<CollectorInfo>): ServiceStatus {
  const lag = (info.counters['outbox_batches'] ?? 0) + (info.counters['spool_batches'] ?? 0);
  const role = `${info.units} unit${info.units === 1 ? '' : 's'}`;
  const shared = { version, rows: null, bytes: null, budget_bytes: null, counters: info.counters, health: info.health };
  return { service: 'collector', where: info.host, role, lag, ...shared };
}

function storeStatus({ version, info }: Described<StoreInfo>): ServiceStatus {
  const { shard, role, rows, bytes, budget_bytes, lag, counters, health: own } = info;
  return { service: 'store', where: `shard ${shard}`, role, version, rows, bytes: bytes.total, budget_bytes, lag, counters, health: own };
}

function spilloverStatus({ version, info }: Described<SpilloverInfo>): ServiceStatus {
  const { shard, segments, bytes, budget_bytes, lag, counters, health: own } = info;
  const role = `${segments} segment${segments === 1 ? '' : 's'}`;
  return { service: 'spillover', where: `shard ${shard}`, role, version, rows: null, bytes, budget_bytes, lag, counters, health: own };
}

/** At least one collector, a store for each shard, and a spillover for each where this configuration spills. */
export function missingServices(config: Pick<Config, 'shards' | 'metrics'>, services: readonly ServiceStatus[]): string[] {
  const has = (name: ServiceName, where?: string): boolean =>
    services.some((one) => one.service === name && (where === undefined || one.where === where));
  const missing: string[] = [];
  if (!has('collector')) missing.push('no collector answers; start one with `spillway collector`');
  for (let shard = 0; shard < config.shards; shard++) {
    const where = `shard ${shard}`;
    if (!has('store', where)) missing.push(`no store of ${where} answers; start one with \`spillway store\``);
    if (config.metrics.spillover_path !== null && !has('spillover', where)) {
      missing.push(`no spillover of ${where} answers: what leaves memory waits in NATS; start one with \`spillway spillover\``);
    }
  }
  return missing;
}

function printStatus({ services, custody, collector_custody, problems }: Status): void {
  const headings = [
    left('SERVICE'),
    left('WHERE'),
    left('ROLE'),
    left('VERSION'),
    left('READY'),
    right('ROWS'),
    right('BYTES'),
    right('BUDGET'),
  ];
  print(
    formatTable(
      [...headings, right('LAG')],
      services.map((one) => [
        one.service,
        one.where,
        one.role,
        one.version,
        one.health.ready ? 'yes' : 'no',
        one.rows === null ? '-' : `${one.rows}`,
        one.bytes === null ? '-' : formatBytes(one.bytes),
        one.budget_bytes === null ? '-' : formatBytes(one.budget_bytes),
        `${one.lag}`,
      ]),
    ),
  );
  print('\n');
  for (const line of [...custody.map(custodyLine), ...collector_custody.map(collectorCustodyLine)]) print(`${printable(line)}\n`);
  print('\n');
  for (const one of services) print(`${one.service} ${printable(one.where)}: ${countersText(one.counters)}\n`);
  for (const problem of problems) say(`problem: ${printable(problem)}`);
}

/** Zeros say nothing. */
function countersText(counters: Readonly<Record<string, number>>): string {
  const counted = Object.entries(counters).filter(([, count]) => count !== 0);
  return counted.length === 0 ? 'nothing counted' : counted.map(([name, count]) => `${name} ${count}`).join(', ');
}
