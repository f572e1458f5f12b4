// `spillway tail`: samples as they are taken, until Ctrl-C.

import type { SpillwayClient } from '#client/client';
import { QueryError } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import { print, printJson, say } from './output.ts';
import { SAMPLE_HEADINGS, sampleCells } from './queries.ts';
import { type GlobalOptions, withClient } from './session.ts';
import { printable } from './table.ts';
import { formatTime } from './time.ts';
import { matchSeries, splitName } from './unit-name.ts';

const NAME_WIDTH = 24;
const CELL_WIDTH = 10;
const DROPS_INTERVAL_MS = 5_000;

export function tail(name: string | undefined, options: GlobalOptions & { host?: string }): Promise<void> {
  return withClient(options, async (client) => {
    const filter = name === undefined ? { host: options.host } : { host: options.host, ...(await filterOf(client, name)) };
    const samples = client.tail(filter);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => samples.stop());
    const reports = setInterval(() => reportDrops(), DROPS_INTERVAL_MS);
    let reported = 0;
    const reportDrops = (): void => {
      if (samples.dropped > reported) say(`${samples.dropped - reported} samples dropped: they came faster than they were written`);
      reported = samples.dropped;
    };
    try {
      if (!options.json)
        print(
          line(
            'TIME',
            'UNIT',
            SAMPLE_HEADINGS.map((heading) => heading.title),
          ),
        );
      for await (const sample of samples) options.json ? printJson(sample) : print(sampleLine(sample));
    } finally {
      clearInterval(reports);
      reportDrops();
    }
  });
}

/** Works without a store, from the name alone: live samples need none. */
async function filterOf(client: SpillwayClient, name: string): Promise<{ host?: string; unit: string }> {
  try {
    return matchSeries(await client.units(), name) ?? splitName(name) ?? { unit: name };
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    return splitName(name) ?? { unit: name };
  }
}

function sampleLine(sample: Sample): string {
  return line(formatTime(sample.ts), printable(`${sample.host}/${sample.unit}`), sampleCells(sample));
}

function line(time: string, name: string, cells: readonly string[]): string {
  return `${time.padEnd(23)}  ${name.padEnd(NAME_WIDTH)}${cells.map((cell) => cell.padStart(CELL_WIDTH)).join('')}\n`;
}
