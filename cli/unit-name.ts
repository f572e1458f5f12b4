// Which series a person means: `<host>/<unit>`, or `<unit>` alone where only one host has it.
// Both names may contain a slash, so what is known is compared whole before anything is taken apart.

import type { SpillwayClient } from '#client/client';
import type { UnitInfo } from '#shared/contract/queries';
import type { SeriesKey } from '#shared/contract/series';
import { CommandFailure } from './failure.ts';
import { printable } from './table.ts';

/**
 * A full name needs not be known: its rows may all be in the spill, and of one that never was the service says so.
 * @throws {CommandFailure} when a unit alone is not known, or several hosts have it
 */
export async function findSeries(client: SpillwayClient, text: string): Promise<SeriesKey> {
  const found = matchSeries(await client.units(), text) ?? splitName(text);
  if (found !== null) return found;
  throw new CommandFailure(
    `no unit in the window is called ${printable(text)}; \`spillway units\` lists what there is, and <host>/<unit> also finds what is only in the spill`,
  );
}

/** Null when nothing fits. @throws {CommandFailure} when several do */
export function matchSeries(units: readonly UnitInfo[], text: string): SeriesKey | null {
  const exact = units.filter(({ host, unit }) => `${host}/${unit}` === text);
  const matches = exact.length > 0 ? exact : units.filter(({ unit }) => unit === text);
  const [only] = matches;
  if (only === undefined) return null;
  if (matches.length === 1) return { host: only.host, unit: only.unit };
  const names = matches.map(({ host, unit }) => printable(`${host}/${unit}`));
  throw new CommandFailure(
    `${printable(text)} is ambiguous: ${names.slice(0, 5).join(', ')}${names.length > 5 ? ', …' : ''}; name the host as well`,
  );
}

/** At the first slash; null when there is none to split at. */
export function splitName(text: string): SeriesKey | null {
  const slash = text.indexOf('/');
  return slash < 1 || slash === text.length - 1 ? null : { host: text.slice(0, slash), unit: text.slice(slash + 1) };
}
