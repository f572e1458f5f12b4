#!/usr/bin/env node
// The `spillway` program: runs one command and exits with its code. 0 done, 1 failed, 2 configuration or usage.
// A failure is one clear sentence on standard error; the stack behind it is shown with SPILLWAY_LOG_LEVEL=debug.

import { EXIT_DONE } from '#shared/runtime/service';
import { verdictOf } from './failure.ts';
import { createProgram } from './program.ts';

async function run(argv: readonly string[]): Promise<number> {
  let exitCode: number = EXIT_DONE;
  try {
    await createProgram((code) => {
      exitCode = code;
    }).parseAsync(argv);
    return exitCode;
  } catch (error) {
    const verdict = verdictOf(error);
    if (verdict.sentence !== null) process.stderr.write(`spillway: ${verdict.sentence}\n`);
    if (process.env['SPILLWAY_LOG_LEVEL'] === 'debug' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
    return verdict.exitCode;
  }
}

// `spillway range | head`: whoever read us has what they wanted.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT_DONE);
    throw error;
  });
}

const exitCode = await run(process.argv);
// What is written to a pipe leaves when its reader takes it; exiting would cut it off.
for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write('', resolve));
process.exit(exitCode);
