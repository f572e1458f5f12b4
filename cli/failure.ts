// Why a command failed, for the person who typed it: one sentence that says what, where, and what to do.

import { CommanderError } from 'commander';
import { QueryError } from '#shared/contract/queries';
import { NatsUnreachableError } from '#shared/nats/connection';
import { ConfigError } from '#shared/runtime/config';
import { EXIT_CONFIGURATION, EXIT_DONE, EXIT_FAILED, SetupError } from '#shared/runtime/service';

/** A failure with its sentence and its exit code. */
export class CommandFailure extends Error {
  readonly exitCode: number;
  constructor(sentence: string, exitCode: number = EXIT_FAILED) {
    super(sentence);
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
  }
}

/** What the command line asks for cannot be understood. */
export class UsageFailure extends CommandFailure {
  constructor(sentence: string) {
    super(sentence, EXIT_CONFIGURATION);
    this.name = 'UsageFailure';
  }
}

export interface Verdict {
  readonly exitCode: number;
  /** Null when it has been said already. */
  readonly sentence: string | null;
}

export function verdictOf(error: unknown): Verdict {
  if (error instanceof CommanderError) return { exitCode: error.exitCode === 0 ? EXIT_DONE : EXIT_CONFIGURATION, sentence: null };
  if (error instanceof CommandFailure) return { exitCode: error.exitCode, sentence: error.message };
  if (error instanceof ConfigError || error instanceof SetupError) return { exitCode: EXIT_CONFIGURATION, sentence: error.message };
  if (error instanceof NatsUnreachableError) {
    return {
      exitCode: EXIT_FAILED,
      sentence: `${error.message}${error.message.endsWith('?') ? '' : '.'} Start it here with \`spillway up\`, or name another with --server or nats.servers.`,
    };
  }
  if (error instanceof QueryError) return { exitCode: EXIT_FAILED, sentence: error.message };
  return { exitCode: EXIT_FAILED, sentence: error instanceof Error ? error.message : String(error) };
}
