// One supervised process: started again with a growing pause when it ends by itself, until it is told to stop or ends with
// the exit code that says its configuration is wrong. Its output goes to a log file, its id to a file that units can name.
//
// It runs in a session of its own, so Ctrl-C in the terminal reaches only the supervisor, which orders the stop. It has a
// channel to the supervisor (Node programs only), so that it ends when the supervisor is killed.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT_CONFIGURATION } from '#shared/runtime/service';
import { type UpDirectory, writeWhole } from './up-directory.ts';

export interface ChildOptions {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly directory: UpDirectory;
  /** True for our own programs. */
  readonly hasChannel: boolean;
  /** Told of every end that was not asked for, and how long the pause is. */
  readonly onRestart: (ended: string, pauseMs: number) => void;
  /** Told when it ended with 2: it is not started again. */
  readonly onMisconfigured: () => void;
}

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MOST_MS = 10_000;
/** A process that ran this long has recovered: the next pause is short again. */
const STEADY_MS = 60_000;
const LOG_BYTES_MAX = 10 * 1024 * 1024;

export class SupervisedChild {
  readonly name: string;
  readonly logFile: string;
  private readonly options: ChildOptions;
  private readonly pidFile: string;
  private child: ChildProcess | null = null;
  private ended: Promise<void> = Promise.resolve();
  private restart: NodeJS.Timeout | null = null;
  private pauseMs = BACKOFF_FIRST_MS;
  private isStopping = false;

  constructor(options: ChildOptions) {
    this.options = options;
    this.name = options.name;
    this.logFile = join(options.directory.logs, `${options.name}.log`);
    this.pidFile = join(options.directory.run, `${options.name}.pid`);
  }

  start(): void {
    const { program, args, env, hasChannel } = this.options;
    rotate(this.logFile);
    const log = openSync(this.logFile, 'a', 0o600);
    const child = spawn(program, args, { env, detached: true, stdio: ['ignore', log, log, ...(hasChannel ? (['ipc'] as const) : [])] });
    closeSync(log);
    this.child = child;
    const startedMs = Date.now();
    if (child.pid !== undefined) writeWhole(this.pidFile, `${child.pid}\n`);
    this.ended = new Promise((resolve) => {
      const onEnd = (exitCode: number | null, how: string): void => {
        if (this.child !== child) return;
        this.child = null;
        rmSync(this.pidFile, { force: true });
        resolve();
        this.afterEnd(exitCode, how, Date.now() - startedMs);
      };
      child.once('error', (error) => onEnd(null, error.message));
      child.once('exit', (code, signal) => onEnd(code, signal === null ? `exit code ${code}` : signal));
    });
  }

  /** Tells it to stop. Resolves when it has ended; after the deadline it is killed. */
  async stop(deadlineMs: number): Promise<void> {
    this.isStopping = true;
    if (this.restart !== null) clearTimeout(this.restart);
    if (this.child === null) return;
    this.child.kill('SIGTERM');
    const deadline = setTimeout(() => this.kill(), deadlineMs);
    await this.ended;
    clearTimeout(deadline);
  }

  kill(): void {
    this.isStopping = true;
    this.child?.kill('SIGKILL');
  }

  private afterEnd(exitCode: number | null, how: string, ranMs: number): void {
    if (this.isStopping) return;
    if (exitCode === EXIT_CONFIGURATION && this.options.hasChannel) {
      this.options.onMisconfigured();
      return;
    }
    if (ranMs >= STEADY_MS) this.pauseMs = BACKOFF_FIRST_MS;
    this.options.onRestart(how, this.pauseMs);
    this.restart = setTimeout(() => this.start(), this.pauseMs);
    this.pauseMs = Math.min(BACKOFF_MOST_MS, this.pauseMs * 2);
  }
}

/** At a start only: whoever holds the file open goes on writing to it. One older file is kept. */
function rotate(logFile: string): void {
  if (existsSync(logFile) && statSync(logFile).size > LOG_BYTES_MAX) renameSync(logFile, `${logFile}.1`);
}
