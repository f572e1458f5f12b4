// The rivals: programs of others that are run beside Spillway where they are there. They are looked for in the path and in a
// directory of our own, into which `--with-rivals` unpacks Debian's packages: unpacked and not installed, because that needs no root
// and starts none of the services that the packages bring.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { isExecutable } from '../cli/up/nats-program.ts';

export const VICTORIA_METRICS = 'victoria-metrics';
export const PROCESS_EXPORTER = 'process-exporter';
export const PIDSTAT = 'pidstat';
export const ATOP = 'atop';
/** A library of ours, and so always there. */
export const PIDUSAGE = 'pidusage';

interface Rival {
  readonly package: string;
  /** Name of the program in Debian; upstream's may be another. */
  readonly programs: readonly string[];
}

const RIVALS: Readonly<Record<string, Rival>> = {
  [VICTORIA_METRICS]: { package: 'victoria-metrics', programs: ['victoria-metrics', 'victoria-metrics-prod'] },
  [PROCESS_EXPORTER]: { package: 'prometheus-process-exporter', programs: ['prometheus-process-exporter', 'process-exporter'] },
  [PIDSTAT]: { package: 'sysstat', programs: ['pidstat'] },
  [ATOP]: { package: 'atop', programs: ['atop'] },
};

export class Rivals {
  private readonly unpacked: string;

  /** @param root the checkout */
  constructor(root: string) {
    this.unpacked = join(root, '.spillway', 'bench', 'rivals');
  }

  /** Path of a rival's program; null when it is absent, or lacks a library that its package would have brought. */
  programOf(name: string): string | null {
    const rival = RIVALS[name];
    if (rival === undefined) return null;
    const directories = [...(process.env['PATH'] ?? '').split(delimiter), join(this.unpacked, 'usr/bin'), join(this.unpacked, 'usr/sbin')];
    const places = directories.flatMap((directory) => rival.programs.map((program) => join(directory, program)));
    return places.find((path) => isExecutable(path) && hasLibraries(path)) ?? null;
  }

  /** Those of the named that cannot be run. */
  absent(names: readonly string[]): string[] {
    return names.filter((name) => RIVALS[name] !== undefined && this.programOf(name) === null);
  }

  /** Fetches and unpacks the packages of all that are absent. @throws when apt-get or dpkg is missing or refuses */
  unpackAbsent(): void {
    const packages = this.absent(Object.keys(RIVALS)).map((name) => (RIVALS[name] as Rival).package);
    if (packages.length === 0) return;
    mkdirSync(this.unpacked, { recursive: true });
    const downloads = mkdtempSync(join(tmpdir(), 'packages-'));
    try {
      run('apt-get', ['download', '-qq', '-o', 'APT::Sandbox::User=root', ...packages], downloads);
      for (const file of readdirSync(downloads)) run('dpkg', ['-x', join(downloads, file), this.unpacked], downloads);
    } finally {
      rmSync(downloads, { recursive: true, force: true });
    }
  }
}

function hasLibraries(path: string): boolean {
  const { status, stdout } = spawnSync('ldd', [path], { encoding: 'utf8' });
  return status !== 0 || !stdout.includes('not found'); // a static program is none for ldd
}

function run(program: string, args: readonly string[], cwd: string): void {
  const { error, status } = spawnSync(program, args, { cwd, stdio: ['ignore', 2, 2] });
  if (error === undefined && status === 0) return;
  const reason = error === undefined ? `ended with ${status}` : error.message;
  throw new Error(
    `${program} ${args.join(' ')}: ${reason}. The rivals come from Debian's packages; on Debian run apt-get update and try again, elsewhere put the programs into the path`,
  );
}
