// The version, from the one place that has it.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const VERSION: string = readVersion(dirname(fileURLToPath(import.meta.url)));

/** Looks upwards, because the sources and `dist/` lie at different depths. */
function readVersion(directory: string): string {
  const file = join(directory, 'package.json');
  if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  const parent = dirname(directory);
  if (parent === directory) throw new Error('package.json of spillway was not found above its program');
  return readVersion(parent);
}
