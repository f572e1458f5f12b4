// A sampler reads every unit once when told to. Two kinds: procfs on Linux, pidusage elsewhere and as the reference.

import { platform } from 'node:os';
import { SetupError } from '#shared/runtime/service';
import type { UnitReading } from './core/unit-reading.ts';
import type { UnitTarget } from './core/unit-target.ts';
import { PidusageSampler } from './pidusage-sampler.ts';
import { ProcfsSampler } from './procfs/sampler.ts';

export interface NamedUnit {
  readonly unit: string;
  /** What it comes from: itself, or what gives many. */
  readonly target: UnitTarget;
}

export interface Sampler {
  /** One reading for each unit there is now, in the order of {@link units}. */
  sample(): readonly UnitReading[] | Promise<readonly UnitReading[]>;
  /** The units of the last sample, no name twice. */
  readonly units: readonly NamedUnit[];
  /** Other targets from the next sample on. @throws {SetupError} if this sampler cannot have them; it then keeps those it has */
  retarget(targets: readonly UnitTarget[]): void;
  /** Sentences about what could not be read at the last sample. */
  readonly problems: readonly string[];
  /** Processes looked at in the last sample. */
  readonly processes: number;
  close(): void;
}

/** @throws {SetupError} if this system cannot have the sampler that is asked for, or the units need another one. */
export function createSampler(kind: 'auto' | 'procfs' | 'pidusage', targets: readonly UnitTarget[]): Sampler {
  const isLinux = platform() === 'linux';
  if (kind === 'procfs' && !isLinux) throw new SetupError('sampler: procfs needs Linux; use auto or pidusage');
  if (kind === 'procfs' || (kind === 'auto' && isLinux)) return new ProcfsSampler(targets);
  return new PidusageSampler(targets, isLinux);
}
