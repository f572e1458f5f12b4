// The files of a run: `<bench>.json` is the list of its results; `runs.json` says of each when, where and how it was made.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Result } from './measurements.ts';

export interface RunDescription {
  /** ISO 8601, when it ended. */
  readonly ended: string;
  readonly rounds: number;
  readonly isQuick: boolean;
  readonly absent: readonly string[];
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
}

export type Runs = Readonly<Record<string, RunDescription>>;

export function describeRun(rounds: number, isQuick: boolean, absent: readonly string[]): RunDescription {
  const processors = cpus();
  return {
    ended: new Date().toISOString(),
    rounds,
    isQuick,
    absent,
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.versions.node,
  };
}

export function writeResults(directory: string, bench: string, results: readonly Result[], run: RunDescription): void {
  mkdirSync(directory, { recursive: true });
  writeJson(join(directory, `${bench}.json`), results);
  writeJson(join(directory, 'runs.json'), { ...readRuns(directory), [bench]: run });
}

/** Empty when the benchmark has not been run. */
export function readResults(directory: string, bench: string): Result[] {
  return (readJson(join(directory, `${bench}.json`)) ?? []) as Result[];
}

export function readRuns(directory: string): Runs {
  return (readJson(join(directory, 'runs.json')) ?? {}) as Runs;
}

function readJson(path: string): unknown {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null;
}

function writeJson(path: string, value: unknown): void {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
