// `spillway segments`: list asks the running spillovers; verify and dump read the files themselves, service or not.

import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { SegmentInfo } from '#shared/contract/queries';
import { loadConfig } from '#shared/runtime/config';
import { EXIT_DONE, EXIT_FAILED } from '#shared/runtime/service';
import { CommandFailure } from './failure.ts';
import { print, printJson, say, startProgress } from './output.ts';
import { commandConfig, fromHere, type GlobalOptions, withClient } from './session.ts';
import { readLines, type SegmentVerdict, type SpillFile, spillFiles, verifySegment } from './spill-files.ts';
import { formatBytes, formatTable, left, right } from './table.ts';
import { formatTime } from './time.ts';
import { upDirectory } from './up/up-directory.ts';

export function listSegments(options: GlobalOptions): Promise<void> {
  return withClient(options, async (client) => {
    const segments = await client.segments();
    if (options.json) printJson({ segments, next: null });
    else if (segments.length === 0) say('No spillover has a segment yet.');
    else print(segmentsTable(segments));
  });
}

function segmentsTable(segments: readonly (SegmentInfo & { shard: number })[]): string {
  const headings = [right('SHARD'), left('SEGMENT'), right('ROWS'), right('BYTES'), left('FROM'), left('TO'), left('STATE')];
  const rows = segments.map((one) => [
    `${one.shard}`,
    one.name,
    `${one.rows}`,
    formatBytes(one.bytes),
    formatTime(one.from_ms),
    formatTime(one.to_ms),
    one.sealed ? 'sealed' : 'active',
  ]);
  return formatTable(headings, rows);
}

/** @returns 0 when every segment is good, 1 when one is not */
export async function verifySegments(options: GlobalOptions): Promise<number> {
  const path = spillPath(options);
  const files = await spillFiles(path);
  const total = files.reduce((sum, file) => sum + sizeOf(file), 0);
  const progress = startProgress('verifying');
  const verdicts: SegmentVerdict[] = [];
  let done = 0;
  for (const file of files) {
    verdicts.push(await verifySegment(file, () => progress.show(done, total)));
    done += sizeOf(file);
    progress.show(done, total);
  }
  progress.end();
  const bad = verdicts.filter((verdict) => verdict.problem !== null);
  if (options.json) printJson({ directory: path, segments: verdicts, ok: bad.length === 0 });
  else printVerdicts(path, verdicts);
  return bad.length === 0 ? EXIT_DONE : EXIT_FAILED;
}

function printVerdicts(path: string, verdicts: readonly SegmentVerdict[]): void {
  const headings = [right('SHARD'), left('SEGMENT'), right('ROWS'), right('FIRST'), right('LAST'), left('RESULT')];
  const rows = verdicts.map((one) => [
    `${one.shard}`,
    one.name,
    `${one.rows}`,
    `${one.first_seq ?? '-'}`,
    `${one.last_seq ?? '-'}`,
    one.problem ?? 'good',
  ]);
  if (verdicts.length > 0) print(formatTable(headings, rows));
  const bad = verdicts.filter((one) => one.problem !== null).length;
  const rowsTotal = verdicts.reduce((sum, one) => sum + one.rows, 0);
  say(`${fromHere(path)}: ${verdicts.length} segments, ${rowsTotal} rows, ${bad === 0 ? 'all good' : `${bad} with a problem`}`);
}

/** The rows as they lie there, one JSON object a line. */
export async function dumpSegments(names: readonly string[], options: GlobalOptions): Promise<void> {
  const files = await spillFiles(spillPath(options));
  const unknown = names.filter((name) => !files.some((file) => file.name === name));
  if (unknown.length > 0) throw new CommandFailure(`there is no segment ${unknown.join(', ')}; \`spillway segments verify\` lists them`);
  for (const file of files) {
    if (names.length > 0 && !names.includes(file.name)) continue;
    for await (const block of readLines(file)) if (!process.stdout.write(block)) await once(process.stdout, 'drain');
  }
}

function sizeOf(file: SpillFile): number {
  return statSync(join(file.directory, file.name), { throwIfNoEntry: false })?.size ?? 0;
}

/** Of the configuration; else the one that `spillway up` keeps here, running or not. */
function spillPath(options: GlobalOptions): string {
  const configured = commandConfig(options).metrics.spillover_path;
  if (configured !== null) return configured;
  const { configFile } = upDirectory(process.cwd());
  const path = existsSync(configFile) ? loadConfig({ file: configFile, env: {}, cwd: process.cwd() }).metrics.spillover_path : null;
  if (path !== null) return path;
  throw new CommandFailure('there is no spill: set metrics.spillover_path, or run this where `spillway up` runs');
}
