// pidusage alone, in a process of its own: reads the processes it is given once a second, for ever, and prints a line when it has.
// Argument: a file with their ids.

import { readFileSync } from 'node:fs';
import pidusage from 'pidusage';

const INTERVAL_MS = 1_000;
/** It forgets a process that it was not asked for in this time. */
const HISTORY_MS = 5_000;

const pids = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as number[];
setInterval(() => void pidusage(pids, { maxage: HISTORY_MS }).then(() => process.stdout.write('tick\n')), INTERVAL_MS);
