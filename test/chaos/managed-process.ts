// One process under test: started, frozen, killed and started again by its own pid. One that ends by itself is started again
// after a moment, as any supervisor would, and counted: crash-only processes may do that, but it should be seen.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface ProcessOptions {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly logFile: string;
}

const RESTART_MS = 200;
const POLL_MS = 20;
const TERM_DEADLINE_MS = 10_000;

export class ManagedProcess {
  readonly name: string;
  /** Times it was started. */
  starts = 0;
  /** Times it ended without having been told to. */
  unexpectedExits = 0;
  private readonly options: ProcessOptions;
  private child: ChildProcess | null = null;
  private isWanted = false;
  private ended: Promise<void> = Promise.resolve();

  constructor(options: ProcessOptions) {
    this.options = options;
    this.name = options.name;
  }

  get pid(): number | null {
    return this.child?.pid ?? null;
  }

  start(): void {
    if (this.child !== null) return;
    this.isWanted = true;
    this.starts++;
    const { program, args, env, cwd, logFile } = this.options;
    const log = openSync(logFile, 'a');
    writeSync(log, `--- ${new Date().toISOString()} started\n`);
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', log, log] });
    closeSync(log);
    this.child = child;
    this.ended = new Promise((resolve) => {
      const onEnd = (): void => {
        if (this.child === child) this.child = null;
        resolve();
        if (this.isWanted) void this.startAgain();
      };
      child.once('exit', onEnd);
      child.once('error', onEnd);
    });
  }

  async kill(): Promise<void> {
    this.isWanted = false;
    this.child?.kill('SIGKILL');
    await this.ended;
  }

  /** SIGTERM; SIGKILL when that does not end it in time. */
  async terminate(): Promise<void> {
    this.isWanted = false;
    const { child } = this;
    child?.kill('SIGTERM');
    const deadline = setTimeout(() => child?.kill('SIGKILL'), TERM_DEADLINE_MS);
    await this.ended;
    clearTimeout(deadline);
  }

  /**
   * For a fault after which it must end by itself: waits until it has, and has been started again. That end is not counted.
   * @param starts what {@link starts} was before
   * @returns false when it did not end in time
   */
  async untilEndedSince(starts: number, withinMs: number): Promise<boolean> {
    for (const deadlineMs = Date.now() + withinMs; this.starts === starts; await delay(POLL_MS)) if (Date.now() >= deadlineMs) return false;
    this.unexpectedExits--;
    return true;
  }

  freeze(): void {
    this.child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.child?.kill('SIGCONT');
  }

  private async startAgain(): Promise<void> {
    this.unexpectedExits++;
    await delay(RESTART_MS);
    if (this.isWanted) this.start();
  }
}
