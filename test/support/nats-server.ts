// A real nats-server for a test: JetStream in a directory of its own, a free port, ended by its pid.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface TestServer {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Where its data is. */
  readonly directory: string;
  /** SIGKILL, and waits until it is gone. The data stays. */
  kill(): Promise<void>;
  /** Starts again on the same port with the same data. */
  start(): Promise<void>;
  /** Freezes and thaws the process. */
  pause(): void;
  resume(): void;
  /** Ends it and removes its data. */
  stop(): Promise<void>;
}

const START_DEADLINE_MS = 10_000;

export async function startNatsServer(options: { args?: string[]; jetStream?: boolean } = {}): Promise<TestServer> {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-nats-'));
  const program = process.env['NATS_SERVER'] ?? (existsSync('/usr/sbin/nats-server') ? '/usr/sbin/nats-server' : 'nats-server');
  let child: ChildProcess | null = null;
  let port = -1;

  const start = async (): Promise<void> => {
    for (const name of readdirSync(directory)) if (name.endsWith('.ports')) rmSync(join(directory, name));
    const jetStream = options.jetStream === false ? [] : ['-js', '-sd', join(directory, 'data')];
    const args = ['-a', '127.0.0.1', '-p', `${port}`, ...jetStream, '--ports_file_dir', directory, ...(options.args ?? [])];
    const started = spawn(program, args, { stdio: 'ignore' });
    child = started;
    port = await readPort(directory, started);
  };
  const ended = (process: ChildProcess): Promise<void> =>
    process.exitCode !== null || process.signalCode !== null
      ? Promise.resolve()
      : new Promise((resolve) => process.once('exit', () => resolve()));
  const kill = async (): Promise<void> => {
    if (child === null) return;
    child.kill('SIGKILL');
    await ended(child);
  };

  await start();
  return {
    get url() {
      return `nats://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    get pid() {
      return child?.pid ?? -1;
    },
    directory,
    kill,
    start,
    pause: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
    stop: async () => {
      child?.kill('SIGCONT');
      await kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function readPort(directory: string, child: ChildProcess): Promise<number> {
  const deadlineMs = Date.now() + START_DEADLINE_MS;
  while (Date.now() < deadlineMs) {
    if (child.exitCode !== null) throw new Error(`nats-server ended with ${child.exitCode} before it was ready`);
    const name = readdirSync(directory).find((entry) => entry.endsWith('.ports'));
    if (name !== undefined) {
      try {
        const ports = JSON.parse(readFileSync(join(directory, name), 'utf8')) as { nats: string[] };
        const url = ports.nats[0];
        if (url !== undefined) return Number(new URL(url).port);
      } catch {
        // Half written: read again.
      }
    }
    await delay(5);
  }
  throw new Error('nats-server did not write its ports file in time');
}
