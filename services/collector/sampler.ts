// A sampler reads every unit once when told to. Two kinds: procfs on Linux, pidusage elsewhere and as the reference.

import { platform } from 'node:os';
import { SetupError } from '#shared/runtime/service';
import type { UnitReading } from './core/unit-reading.ts';
import type { UnitTarget } from './core/unit-target.ts';
import { PidusageSampler } from './pidusage-sampler.ts';
import { ProcfsSampler } from './procfs/sampler.ts';

export interface Sampler {
  /** One reading per target, in their order. */
  sample(): readonly UnitReading[] | Promise<readonly UnitReading[]>;
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
  const matches = targets.filter((target) => target.rule.kind === 'match').map((target) => target.unit);
  if (!isLinux && matches.length > 0) {
    throw new SetupError(
      `units ${matches.join(', ')}: match needs a list of all processes, which only Linux gives without running programs; use pid or pidfile here`,
    );
  }
  return new PidusageSampler(targets, isLinux);
}
