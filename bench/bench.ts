// What every benchmark is: a name, and tasks. A task does fixed work once and returns its numbers; the tasks are run round by round,
// so that contenders take turns and a slow moment of the machine meets all of them.

import type { Measured } from './measurements.ts';
import type { Rivals } from './rivals.ts';

export interface BenchContext {
  /** The checkout: `<root>/dist/cli/main.js` is the program. */
  readonly root: string;
  readonly rivals: Rivals;
  /** Small work, to see that it runs: the numbers mean little. */
  readonly isQuick: boolean;
  /** Only this size (series, units or processes, whatever the benchmark grows); null: all of them. */
  readonly size: number | null;
}

export interface Task {
  /** Shown while it runs. */
  readonly label: string;
  run(): Promise<Measured[]>;
}

export interface Bench {
  readonly name: string;
  /** Rivals that it runs beside Spillway where they are installed. */
  readonly rivals: readonly string[];
  /** Rounds of a full run. */
  readonly rounds: number;
  tasks(context: BenchContext): readonly Task[];
}

/** The sizes to run: all, a smaller choice in a hurry, or the one that was asked for. */
export function sizesOf({ isQuick, size }: BenchContext, full: readonly number[], quick: readonly number[]): readonly number[] {
  if (size !== null) return [size];
  return isQuick ? quick : full;
}
