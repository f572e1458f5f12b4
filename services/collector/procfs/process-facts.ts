// What rules and names want to know of a process besides its command line: read when it is asked for, kept until the process
// is examined again. A process may change its name and its user while it runs, and be moved to another control group.

import { type CgroupPath, parseCgroups } from '../core/cgroup-path.ts';
import type { ProcFiles } from './proc-files.ts';
import type { ProcessEntry } from './process-table.ts';

interface Facts {
  comm?: string | null;
  uid?: number | null;
  cgroups?: readonly CgroupPath[];
}

export class ProcessFacts {
  readonly #files: ProcFiles;
  readonly #known = new WeakMap<ProcessEntry, Facts>();

  constructor(files: ProcFiles) {
    this.#files = files;
  }

  /** What is asked for next is read again. */
  forget(entry: ProcessEntry): void {
    this.#known.delete(entry);
  }

  /** Null: it is gone. */
  comm(entry: ProcessEntry): string | null {
    const facts = this.#of(entry);
    facts.comm ??= this.#files.readText(`${entry.pid}/comm`)?.replace(/\n$/, '') ?? null;
    return facts.comm;
  }

  /** Effective; null when it cannot be read. */
  uid(entry: ProcessEntry): number | null {
    const facts = this.#of(entry);
    facts.uid ??= readUid(this.#files, entry.pid);
    return facts.uid;
  }

  /** None when they cannot be read. */
  cgroups(entry: ProcessEntry): readonly CgroupPath[] {
    const facts = this.#of(entry);
    facts.cgroups ??= parseCgroups(this.#files.readText(`${entry.pid}/cgroup`) ?? '');
    return facts.cgroups;
  }

  #of(entry: ProcessEntry): Facts {
    const known = this.#known.get(entry);
    if (known !== undefined) return known;
    const facts: Facts = {};
    this.#known.set(entry, facts);
    return facts;
  }
}

/** User a process runs as (effective), from its status; null when that cannot be read. */
export function readUid(files: ProcFiles, pid: number): number | null {
  const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(files.readText(`${pid}/status`) ?? '')?.[1];
  return uid === undefined ? null : Number(uid);
}
