// The life of a service process: start, run until it is told to stop or fails, stop within a deadline, exit code.
// Stopping: sources end, queued work finishes, files are synced, NATS drains. A second signal exits at once.

import { ConfigError } from './config.ts';
import type { Logger } from './logging.ts';

export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_CONFIGURATION = 2;

const STOP_DEADLINE_MS = 10_000;

export interface RunningService {
  /** Settles when the service has ended by itself; rejects when it has failed. */
  readonly done: Promise<void>;
  /** Ends the sources and resolves when the queued work is finished and everything is closed. */
  stop(): Promise<void>;
}

/**
 * Runs a service until SIGTERM, SIGINT or its own end.
 * @param start is given a signal that aborts when the process is told to stop before the start has finished
 * @returns the exit code: 0 stopped, 1 failed, 2 configuration
 */
export async function runService(logger: Logger, start: (stopping: AbortSignal) => Promise<RunningService>): Promise<number> {
  const stopping = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopping.signal.aborted) {
      logger.warn({ signal }, 'second signal, exiting at once');
      process.exit(EXIT_FAILED);
    }
    logger.info({ signal }, 'stopping');
    stopping.abort();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  const told = new Promise<'told'>((resolve) => stopping.signal.addEventListener('abort', () => resolve('told'), { once: true }));
  try {
    const service = await start(stopping.signal);
    logger.info('ready');
    await Promise.race([service.done, told]);
    const deadline = setTimeout(() => {
      logger.error({ deadline_ms: STOP_DEADLINE_MS }, 'could not stop in time, exiting');
      process.exit(EXIT_FAILED);
    }, STOP_DEADLINE_MS);
    await service.stop();
    clearTimeout(deadline);
    await service.done;
    logger.info('stopped');
    return EXIT_DONE;
  } catch (error) {
    if (stopping.signal.aborted && isAbort(error)) return EXIT_DONE;
    return reportFailure(logger, error);
  }
}

/** An error that a different configuration would mend: the process exits with 2. */
export class SetupError extends Error {
  constructor(sentence: string) {
    super(sentence);
    this.name = 'SetupError';
  }
}

function reportFailure(logger: Logger, error: unknown): number {
  if (error instanceof ConfigError || error instanceof SetupError) {
    logger.error(error.message);
    return EXIT_CONFIGURATION;
  }
  logger.error({ err: error }, error instanceof Error ? error.message : 'failed');
  return EXIT_FAILED;
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
