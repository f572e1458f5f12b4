// The commands and their options, as data for commander. What a command does is in the file of its name.

import { Command } from 'commander';
import { EXIT_DONE } from '#shared/runtime/service';
import { VERSION } from '#shared/runtime/version';
import { SERVICE_NAMES, type ServiceName } from './serve.ts';
import type { GlobalOptions } from './session.ts';

const SERVICE_MEANINGS: Readonly<Record<ServiceName, string>> = {
  collector: 'read the units of this host and publish their samples',
  store: 'keep the recent past of a shard in memory and answer queries',
  spillover: 'write what leaves the memory of a shard to disk',
};

const UNIT = '<host>/<unit>, or <unit> alone where only one host has it';

/** @param report is told the exit code of the command that ran */
export function createProgram(report: (exitCode: number) => void): Command {
  const program = new Command('spillway')
    .description('The recent past of every managed process, in a memory budget that holds.')
    .version(VERSION)
    .option('-c, --config <file>', 'configuration file (default: spillway.yaml here, if there is one)')
    .option('--server <url>', 'NATS server to use, instead of nats.servers')
    .option('--json', 'print the reply as JSON')
    .configureHelp({ showGlobalOptions: true })
    .exitOverride();

  /** Registers what a command does; its module is loaded when it runs, so that a query starts fast. */
  const act = <Options extends GlobalOptions>(command: Command, run: (options: Options, ...names: string[]) => unknown): void => {
    command.action(async (...args: unknown[]) => {
      const names = args.slice(0, -2) as string[];
      const exitCode = await run(command.optsWithGlobals<Options>(), ...names);
      report(typeof exitCode === 'number' ? exitCode : EXIT_DONE);
    });
  };

  act(program.command('up').description('run everything for this host: NATS, collector, store, spillover'), async (options) =>
    (await import('./up/up.ts')).up(options),
  );
  for (const name of SERVICE_NAMES) {
    act(program.command(name).description(SERVICE_MEANINGS[name]), async (options) => (await import('./serve.ts')).serve(name, options));
  }

  act<GlobalOptions & { host?: string }>(
    program.command('units').description('list what is or was monitored').option('--host <host>', 'only this host'),
    async (options) => (await import('./queries.ts')).units(options),
  );
  act<GlobalOptions & { limit: string }>(
    program
      .command('latest')
      .description('the newest samples of a unit')
      .argument('<unit>', UNIT)
      .option('-n, --limit <count>', 'how many', '10'),
    async (options, unit) => (await import('./queries.ts')).latest(unit, options),
  );
  act(program.command('snapshot').description('all samples of a unit in the window').argument('<unit>', UNIT), async (options, unit) =>
    (await import('./queries.ts')).snapshot(unit, options),
  );
  act<GlobalOptions & { since?: string }>(
    program
      .command('summary')
      .description('minimum, maximum, average and last value of every metric of a unit')
      .argument('<unit>', UNIT)
      .option('--since <time>', 'only samples from this time on: milliseconds, ISO 8601, or relative (-10m)'),
    async (options, unit) => (await import('./queries.ts')).summary(unit, options),
  );
  act<import('./queries.ts').RangeOptions>(
    program
      .command('range')
      .description('all samples of a time, from memory and disk as one')
      .argument('[unit]', `${UNIT}; every unit when left out`)
      .option('--from <time>', 'milliseconds, ISO 8601, or relative to now', '-10m')
      .option('--to <time>', 'the same', 'now')
      .option('--points <count>', 'at most this many points per unit instead of samples'),
    async (options, unit) => (await import('./queries.ts')).range(unit, options),
  );
  act(
    program
      .command('remove')
      .description('forget the rows of a unit in the window, without asking; its rows in the spill stay there')
      .argument('<unit>', UNIT),
    async (options, unit) => (await import('./queries.ts')).remove(unit, options),
  );
  act<GlobalOptions & { host?: string }>(
    program
      .command('tail')
      .description('live samples, until Ctrl-C')
      .argument('[unit]', `${UNIT}; every unit when left out`)
      .option('--host <host>', 'only this host'),
    async (options, unit) => (await import('./tail.ts')).tail(unit, options),
  );
  act<GlobalOptions & { watch?: boolean }>(
    program
      .command('targets')
      .description('which processes the configured units match, and why')
      .option('--watch', 'again every second, until Ctrl-C'),
    async (options) => (await import('./targets.ts')).targets(options),
  );
  act(program.command('status').description('every service, and in whose custody the rows are'), async (options) =>
    (await import('./status.ts')).status(options),
  );
  act(
    program
      .command('health')
      .description('exit 0 when a service of this configuration is ready, 1 when it is not')
      .argument('<service>', SERVICE_NAMES.join(', ')),
    async (options, service) => (await import('./status.ts')).health(service, options),
  );
  act(program.command('check').description('validate the configuration and print what is in force'), async (options) =>
    (await import('./check.ts')).check(options),
  );
  addSegments(program, act);
  return program;
}

type Act = <Options extends GlobalOptions>(command: Command, run: (options: Options, ...names: string[]) => unknown) => void;

function addSegments(program: Command, act: Act): void {
  const segments = program.command('segments').description('the files of the spill');
  act(segments.command('list', { isDefault: true }).description('list them, as the running spillovers see them'), async (options) =>
    (await import('./segments.ts')).listSegments(options),
  );
  act(segments.command('verify').description('read every file of the spill directory and check it'), async (options) =>
    (await import('./segments.ts')).verifySegments(options),
  );
  act(
    segments
      .command('dump')
      .description('write rows of the spill directory as JSON lines')
      .argument('[segment...]', 'file names; all when left out'),
    async (options, ...names) => (await import('./segments.ts')).dumpSegments(names.flat(), options),
  );
}
