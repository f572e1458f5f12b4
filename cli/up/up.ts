// `spillway up`: everything for this host in one command. Claims `.spillway/`, starts a nats-server unless one is configured,
// then the services, says where things are once all are ready, and keeps them running until it is told to stop.
// It holds no data: killed at any moment, the next `up` ends what is left and goes on with the same directories.

import { once } from 'node:events';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type NatsLink, NatsUnreachableError } from '#shared/nats/connection';
import { CONFIG_FILE, type Config, ConfigError } from '#shared/runtime/config';
import { FileWatch } from '#shared/runtime/file-watch';
import { SERVICE_NODE_FLAGS } from '#shared/runtime/node-flags';
import { EXIT_CONFIGURATION, EXIT_DONE, EXIT_FAILED } from '#shared/runtime/service';
import { CommandFailure } from '../failure.ts';
import { onHangUp } from '../hang-up.ts';
import { print, say } from '../output.ts';
import { SERVICE_NAMES } from '../serve.ts';
import { environment, fromHere, type GlobalOptions } from '../session.ts';
import { formatBytes, printable } from '../table.ts';
import { type ChildOptions, SupervisedChild } from './child.ts';
import { type Decisions, environmentOfServices, loadUpConfig, ownUnits, writeEffectiveConfig } from './effective-config.ts';
import { endLeftovers } from './leftovers.ts';
import { findNatsProgram } from './nats-program.ts';
import { configureOwnNats } from './own-nats.ts';
import { connectTo, untilReady } from './readiness.ts';
import { lastErrorIn } from './service-log.ts';
import { announceUp, claimUpDirectory, releaseUpDirectory, type UpDirectory, upDirectory } from './up-directory.ts';

const NATS = 'nats';
/** A service gives itself 10 s; this is more, so that it is the one that reports. */
const STOP_DEADLINE_MS = 12_000;
/** npm repeats a Ctrl-C that the terminal has already sent: within this time they are one. */
const SAME_SIGNAL_MS = 1_000;
const RELOAD_INTERVAL_MS = 1_000;

/** Bundled, this lies in a directory beside it as well. */
const PROGRAM = fileURLToPath(new URL('../main.js', import.meta.url));

/** Runs until it is told to stop. @returns the exit code */
export async function up(options: GlobalOptions): Promise<number> {
  const directory = upDirectory(process.cwd());
  const read = (): Config => loadUpConfig({ file: options.config, env: environment(options), cwd: process.cwd() }, directory);
  const config = read();
  const running = claimUpDirectory(directory);
  if (running !== null) {
    throw new CommandFailure(
      `\`spillway up\` already runs in this directory (process ${running.pid}); stop it there with Ctrl-C, or ask it from here`,
    );
  }
  const supervisor = new Supervisor(directory, config, read);
  try {
    return await supervisor.run();
  } finally {
    await supervisor.stop();
    releaseUpDirectory(directory);
  }
}

class Supervisor {
  private readonly directory: UpDirectory;
  private readonly config: Config;
  private readonly read: () => Config;
  private readonly file: FileWatch;
  /** What was decided at the start: the servers, and as units its own processes. */
  private decisions: Decisions | null = null;
  private readonly children: SupervisedChild[] = [];
  private readonly ending = new AbortController();
  private exitCode: number = EXIT_DONE;
  private firstSignalMs: number | null = null;

  constructor(directory: UpDirectory, config: Config, read: () => Config) {
    this.directory = directory;
    this.config = config;
    this.read = read;
    this.file = new FileWatch(config.file ?? resolve(CONFIG_FILE));
  }

  async run(): Promise<number> {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => this.onSignal());
    onHangUp(() => this.onSignal());
    process.on('SIGHUP', () => this.reload());
    const looks = setInterval(() => this.file.hasChanged() && this.reload(), RELOAD_INTERVAL_MS);
    // Whatever way this process exits by itself, nothing stays behind.
    process.once('exit', () => this.killAll());
    try {
      await this.startAll();
      if (!this.ending.signal.aborted) await once(this.ending.signal, 'abort');
    } catch (error) {
      // A stop cuts whatever was being waited for.
      if (!this.ending.signal.aborted) throw error;
    } finally {
      clearInterval(looks);
    }
    return this.exitCode;
  }

  /** Services first, while their server is still there; then the server. */
  async stop(): Promise<void> {
    this.ending.abort();
    const services = this.children.filter((child) => child.name !== NATS);
    await Promise.all(services.map((child) => child.stop(STOP_DEADLINE_MS)));
    for (const child of this.children) await child.stop(STOP_DEADLINE_MS);
  }

  private async startAll(): Promise<void> {
    const leftovers = await endLeftovers(this.directory);
    if (leftovers.length > 0) say(`Ended what an earlier \`spillway up\` left running: ${leftovers.join(', ')}.`);
    const servers = await this.startNats();
    const names = SERVICE_NAMES.filter((name) => name !== 'spillover' || this.config.metrics.spillover_path !== null);
    const own = ownUnits(this.directory, [...this.children.map((child) => child.name), ...names]);
    this.decisions = { servers, units: own };
    const units = this.writeConfigOfServices(this.config, this.decisions);
    const config = { ...this.config, nats: { ...this.config.nats, servers } };
    const link = await this.connect(config);
    announceUp(this.directory, servers);
    // The collector last: by then every process it is to measure is there.
    for (const name of [...names].reverse()) this.startService(name);
    await untilReady(link, config, names, this.ending.signal).finally(() => link.close());
    print(readyMessage(this.directory, config, Object.keys(units), units === own));
  }

  /** The collector sees that its file has changed, and takes the units. Nothing else changes while Spillway runs. */
  private reload(): void {
    if (this.decisions === null || this.ending.signal.aborted) return;
    try {
      this.writeConfigOfServices(this.read(), this.decisions);
      say('The units of the configuration were read again.');
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      say(`spillway: the changed configuration is not used, the units are those from before: ${error.message}`);
    }
  }

  /** @returns the units: where none are configured Spillway measures itself, and the collector needs no unit of its own */
  private writeConfigOfServices({ units, units_max, own_unit }: Config, { servers, units: own }: Decisions): Config['units'] {
    const isMonitoringItself = Object.keys(units).length === 0;
    const config = { ...this.config, units_max, own_unit: own_unit && !isMonitoringItself };
    const inForce = isMonitoringItself ? own : units;
    writeEffectiveConfig(this.directory, config, { servers, units: inForce });
    return inForce;
  }

  private async connect(config: Config): Promise<NatsLink> {
    try {
      return await connectTo(config, this.ending.signal);
    } catch (error) {
      const server = this.children.find((child) => child.name === NATS);
      if (!(error instanceof NatsUnreachableError)) throw error;
      throw new CommandFailure(
        server === undefined
          ? `${error.message} It is the one that nats.servers names; without that, \`spillway up\` runs its own.`
          : `nats-server was started and does not answer${reason(server)}`,
      );
    }
  }

  /** @returns the addresses of the server to use, an own one unless others are configured */
  private async startNats(): Promise<string[]> {
    if (this.config.given.has('nats.servers')) return [...this.config.nats.servers];
    const program = await findNatsProgram(process.env);
    const server = await configureOwnNats(this.directory, this.config);
    this.ending.signal.throwIfAborted();
    this.startChild({ name: NATS, program, args: ['-c', this.directory.natsConfigFile], env: process.env, hasChannel: false });
    return [server];
  }

  private startService(name: string): void {
    const env = environmentOfServices(process.env, this.directory);
    this.startChild({ name, program: process.execPath, args: [...SERVICE_NODE_FLAGS, PROGRAM, name], env, hasChannel: true });
  }

  private startChild(options: Pick<ChildOptions, 'name' | 'program' | 'args' | 'env' | 'hasChannel'>): void {
    const child = new SupervisedChild({
      ...options,
      directory: this.directory,
      onRestart: (ended, pauseMs) => say(`${child.name} ended (${ended})${reason(child)}; starting it again in ${pauseMs} ms`),
      onMisconfigured: () => {
        say(`spillway: ${child.name} cannot run with this configuration${reason(child)}`);
        this.exitCode = EXIT_CONFIGURATION;
        this.ending.abort();
      },
    });
    this.children.push(child);
    child.start();
  }

  private onSignal(): void {
    const nowMs = Date.now();
    if (this.firstSignalMs === null) {
      this.firstSignalMs = nowMs;
      say('Stopping…');
      this.ending.abort();
    } else if (nowMs - this.firstSignalMs > SAME_SIGNAL_MS) {
      say('Second signal: killing what still runs.');
      process.exit(EXIT_FAILED); // which kills the rest
    }
  }

  private killAll(): void {
    for (const child of this.children) child.kill();
  }
}

/** What a child said last before it ended, and where to read the rest. */
function reason(child: SupervisedChild): string {
  const sentence = lastErrorIn(child.logFile);
  return `${sentence === null ? '' : `: ${sentence}`} (${fromHere(child.logFile)})`;
}

function readyMessage(directory: UpDirectory, config: Config, units: readonly string[], isMonitoringItself: boolean): string {
  const { metrics, nats } = config;
  const program = `node ${fromHere(PROGRAM)}`;
  const hint = isMonitoringItself ? "  (Spillway's own processes; name yours under `units:` in spillway.yaml)" : '';
  const spill = metrics.spillover_path === null ? 'off: what leaves memory is dropped and counted' : fromHere(metrics.spillover_path);
  return `Spillway is ready on ${printable(config.host)}.

  units   ${units.map(printable).join(', ')}${hint}
  NATS    ${nats.servers.join(', ')}
  memory  ${formatBytes(metrics.max_memory_bytes)} for the window, ${metrics.retention_minutes} minutes at most
  spill   ${spill}
  logs    ${fromHere(directory.logs)}/

From this directory:

  ${program} units
  ${program} latest ${units[0] ?? '<unit>'}
  ${program} range --from -5m
  ${program} status

Ctrl-C stops everything; what was measured stays in ${fromHere(directory.root)}/.
`;
}
