// SIGHUP means two things: read the configuration again, and that the terminal is gone. They are told apart by the terminal.

import { isatty } from 'node:tty';

/** Standard input, output and error. */
const STREAMS = [0, 1, 2] as const;

/** Calls when a SIGHUP comes and the terminal that was there at the start no longer is: nobody could stop the program any more. */
export function onHangUp(stop: () => void): void {
  const terminals = STREAMS.filter((descriptor) => isatty(descriptor));
  if (terminals.length === 0) return;
  process.on('SIGHUP', () => {
    if (!terminals.some((descriptor) => isatty(descriptor))) stop();
  });
}
