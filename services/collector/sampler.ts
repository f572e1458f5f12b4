// A sampler reads every unit once when told to. Two kinds: procfs on Linux, pidusage elsewhere and as the reference.

import { platform } from 'node:os';
import type { ExtraMetricName } from '#shared/contract/metrics';
import { SetupError } from '#shared/runtime/service';
import type { UnitReading } from './core/unit-reading.ts';
import type { UnitTarget } from './core/unit-target.ts';
import { PidusageSampler } from './pidusage-sampler.ts';
import { checkProcfs, OWN_PROCFS } from './procfs/pid-namespace.ts';
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
  /** CPU and memory of the units and processes of the last sample, in the same order. Absent where that is too slow. */
  samplePeak?(): readonly UnitReading[];
  /** Sentences about what could not be read at the last sample. */
  readonly problems: readonly string[];
  /** Processes looked at in the last sample. */
  readonly processes: number;
  close(): void;
}

export interface SamplerOptions {
  /** Where the procfs is. */
  readonly procfs?: string;
  /** Docker's data. */
  readonly dockerRoot?: string;
  /** Metrics to read beside those of every sample. */
  readonly extras?: readonly ExtraMetricName[];
}

/** @throws {SetupError} if this system cannot have the sampler that is asked for, or the units or metrics need another one. */
export function createSampler(
  kind: 'auto' | 'procfs' | 'pidusage',
  targets: readonly UnitTarget[],
  { procfs = OWN_PROCFS, dockerRoot, extras = [] }: SamplerOptions = {},
): Sampler {
  const isLinux = platform() === 'linux';
  const docker = dockerRoot === undefined ? {} : { dockerRoot };
  if (kind === 'procfs' && !isLinux) throw new SetupError('sampler: procfs needs Linux; use auto or pidusage');
  if (kind === 'procfs' || (kind === 'auto' && isLinux)) {
    checkProcfs(procfs);
    return new ProcfsSampler(targets, { root: procfs, extras, ...docker });
  }
  if (extras.length > 0)
    throw new SetupError(`sampler: pidusage does not know ${extras.join(', ')}; remove metrics_extra and peak, or use procfs`);
  if (procfs !== OWN_PROCFS) throw new SetupError(`sampler: pidusage does not read ${procfs}; remove procfs, or use the procfs sampler`);
  return new PidusageSampler(targets, isLinux, docker);
}
