// The stack of docker-compose.yml under a project name of its own, driven as an operator drives it: compose, docker, the program in its containers.

import { type SpawnOptions, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Status } from '../../cli/status.ts';
import { eventually } from '../support/eventually.ts';
import type { Finished } from '../support/program.ts';
import { custodyViolations, type StoredSample } from './custody.ts';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Ends only what would never come: a busy machine takes its time. */
const HEALTHY_MS_MAX = 180_000;
const SETTLE_MS_MAX = 180_000;

export class Stack {
  readonly project: string;
  /** Compose files in force. */
  files: readonly string[] = ['docker-compose.yml'];
  /** Variables for them. */
  env: Record<string, string> = {};

  constructor(project: string) {
    this.project = project;
  }

  /** Runs a compose command. @throws when it fails */
  async compose(...args: string[]): Promise<string> {
    return succeeded(`compose ${args.join(' ')}`, await this.tryCompose(...args));
  }

  /** A compose command that may fail. */
  tryCompose(...args: string[]): Promise<Finished> {
    const [program = '', ...first] = (process.env['SPILLWAY_TEST_COMPOSE'] ?? 'docker compose').split(' ');
    const files = this.files.flatMap((file) => ['-f', file]);
    return run(program, [...first, '-p', this.project, ...files, ...args], { cwd: ROOT, env: { ...process.env, ...this.env } });
  }

  /** Runs a docker command. @throws when it fails */
  async docker(...args: string[]): Promise<string> {
    return succeeded(`docker ${args.join(' ')}`, await this.tryDocker(...args));
  }

  /** A docker command that may fail. */
  tryDocker(...args: string[]): Promise<Finished> {
    return run('docker', args);
  }

  /** Brings it up as it is configured. */
  async up(): Promise<void> {
    await this.compose('up', '-d');
  }

  /** Waits until docker calls everything healthy. */
  async healthy(): Promise<void> {
    await eventually(
      async () => {
        const all = await this.containers();
        const unhealthy = all.filter(({ status }) => !/^Up (?!.*\((health: starting|unhealthy|Paused)\))/.test(status));
        if (all.length === 0) throw new Error('nothing runs');
        if (unhealthy.length > 0) throw new Error(unhealthy.map(({ service, status }) => `${service}: ${status}`).join(', '));
      },
      { withinMs: HEALTHY_MS_MAX, everyMs: 1_000 },
    );
  }

  /** Every container of the stack, whether it runs or not. `status` is what `docker ps` prints. */
  async containers(): Promise<{ id: string; service: string; status: string }[]> {
    const labels = [`project=${this.project}`, 'oneoff=False'].flatMap((label) => ['--filter', `label=com.docker.compose.${label}`]);
    const format = '{{.ID}}\t{{.Label "com.docker.compose.service"}}\t{{.Status}}';
    const lines = (await this.docker('ps', '--all', ...labels, '--format', format)).split('\n').filter((line) => line !== '');
    return lines.map((line) => {
      const [id = '', service = '', status = ''] = line.split('\t');
      return { id, service, status };
    });
  }

  /** Id of the container of a service. @throws when there is none */
  async container(service: string): Promise<string> {
    const found = (await this.containers()).find((container) => container.service === service);
    if (found === undefined) throw new Error(`${service} has no container`);
    return found.id;
  }

  /** A field of `docker inspect`, as a Go template. */
  async inspect(service: string, template: string): Promise<string> {
    return (await this.docker('inspect', '--format', template, await this.container(service))).trim();
  }

  /**
   * SIGKILL to the process of a service, from outside of its container as the kernel does it when memory runs out. Unlike `docker kill`,
   * which docker takes for the operator's wish that it should not run, this leaves it to the restart policy.
   */
  async killProcess(service: string): Promise<void> {
    const processes = await this.processes(service);
    const victim = processes.find(({ command }) => !command.includes('docker-init'));
    if (victim === undefined) throw new Error(`${service} has no process`);
    const image = await this.inspect(service, '{{.Image}}');
    await this.docker('run', '--rm', '--network=none', '--pid=host', '--user=0', '--entrypoint=sh', image, '-c', `kill -9 ${victim.pid}`);
  }

  /** As the engine's host sees them. */
  async processes(service: string): Promise<{ pid: number; rssBytes: number; command: string }[]> {
    const lines = (await this.docker('top', await this.container(service), '-o', 'pid,rss,args')).trim().split('\n').slice(1);
    return lines.map((line) => {
      const [pid, rssKiB, ...command] = line.trim().split(/\s+/);
      return { pid: Number(pid), rssBytes: Number(rssKiB) * 1024, command: command.join(' ') };
    });
  }

  /** Waits until a service says that it is ready. */
  async ready(service: 'store' | 'spillover'): Promise<void> {
    await eventually(
      async () => {
        const { code, stderr } = await this.trySpillway(service, 'health', service);
        if (code !== 0) throw new Error(`${service} is not ready: ${stderr}`);
      },
      { withinMs: HEALTHY_MS_MAX, everyMs: 1_000 },
    );
  }

  /** Runs the program in a container. */
  async trySpillway(service: string, ...args: string[]): Promise<Finished> {
    return this.tryDocker('exec', await this.container(service), 'spillway', ...args);
  }

  /** What a command prints, in the container of the store. @throws when it fails */
  async spillway(...args: string[]): Promise<string> {
    return succeeded(`spillway ${args.join(' ')}`, await this.trySpillway('store', ...args));
  }

  async reply<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.spillway(...args, '--json')) as T;
  }

  /** @param service in whose container it is asked; whether all is well is for the caller to say */
  async status(service: 'store' | 'spillover' = 'store'): Promise<Status> {
    const { stdout, stderr } = await this.trySpillway(service, 'status', '--json');
    if (stdout === '') throw new Error(`spillway status: ${stderr}`);
    return JSON.parse(stdout) as Status;
  }

  /** All that there is, sorted by time. */
  async samples(): Promise<StoredSample[]> {
    return (await this.reply<{ samples: StoredSample[] }>('range', '--from', '0')).samples;
  }

  /** The newest sample of a unit. @throws when there is none */
  async newest(unit: string): Promise<StoredSample> {
    const { samples } = await this.reply<{ samples: StoredSample[] }>('latest', unit, '-n', '1');
    const [sample] = samples;
    if (sample === undefined) throw new Error(`there is no sample of ${unit}`);
    return sample;
  }

  /**
   * Every row in exactly one place. Stops the collectors in order, lets the rest come to rest, judges, and starts them again.
   * @throws with what is wrong
   */
  async requireCustody(): Promise<StoredSample[]> {
    const collectors = (await this.containers()).filter(({ service }) => service.endsWith('collector')).map(({ id }) => id);
    const before = await eventually(() => this.statusWith(collectors.length), { withinMs: SETTLE_MS_MAX, everyMs: 1_000 });
    await this.docker('stop', ...collectors);
    const judged = await eventually(
      async () => {
        const after = await this.status();
        const unsettled = after.services.filter(({ lag, health }) => lag > 0 || !health.ready);
        if (unsettled.length > 0) throw new Error(`not at rest: ${JSON.stringify(unsettled)}`);
        const samples = await this.samples();
        const violations = custodyViolations({ samples, before, after });
        if (violations.length > 0) throw new Error(`custody: ${violations.join('\n')}`);
        return samples;
      },
      { withinMs: SETTLE_MS_MAX, everyMs: 1_000 },
    );
    await this.docker('start', ...collectors);
    return judged;
  }

  private async statusWith(collectors: number): Promise<Status> {
    const status = await this.status();
    const ready = status.services.filter(({ service, health, lag }) => service === 'collector' && health.ready && lag < 10);
    if (ready.length !== collectors)
      throw new Error(`${ready.length} of ${collectors} collectors are ready: ${status.problems.join('; ')}`);
    return status;
  }
}

function succeeded(what: string, { code, stdout, stderr }: Finished): string {
  if (code !== 0) throw new Error(`${what}: exit code ${code}: ${stderr.trim()}`);
  return stdout;
}

function run(program: string, args: readonly string[], options: SpawnOptions = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.once('error', reject);
    child.once('close', (code) =>
      resolve({ code, stdout: Buffer.concat(stdout).toString('utf8'), stderr: Buffer.concat(stderr).toString('utf8') }),
    );
  });
}
