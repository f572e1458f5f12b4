import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkProcfs, namespaceDepth } from '../../services/collector/procfs/pid-namespace.ts';
import { ProcFiles } from '../../services/collector/procfs/proc-files.ts';
import { ProcessTable } from '../../services/collector/procfs/process-table.ts';
import { createSampler } from '../../services/collector/sampler.ts';
import { FakeProcfs } from '../support/fake-procfs.ts';

let fake: FakeProcfs;
beforeEach(() => {
  fake = new FakeProcfs();
});
afterEach(() => fake.remove());

const showAs = (pids: string): void => writeFileSync(join(fake.root, String(process.pid), 'status'), `Name:\tx\nNSpid:\t${pids}\n`);

describe('a configured procfs', () => {
  test('is refused when it is none', () => {
    const directory = mkdtempSync(join(tmpdir(), 'spillway-procfs-'));
    mkdirSync(join(directory, 'self'));
    try {
      expect(() => createSampler('procfs', [], { procfs: directory })).toThrow(
        `procfs: ${directory} is not a procfs, it has no stat with btime; mount the host's /proc there, read-only`,
      );
      expect(() => createSampler('procfs', [], { procfs: join(directory, 'absent') })).toThrow('is not a procfs');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('is refused when it does not show this process: the host’s does', () => {
    expect(() => checkProcfs(fake.root)).not.toThrow();
    fake.setSelf(4_000_000);
    expect(() => checkProcfs(fake.root)).toThrow('belongs to a pid namespace that this process is not in, so it does not show the host');
  });

  test('goes with the procfs sampler only, as extra metrics do', () => {
    expect(() => createSampler('pidusage', [], { procfs: '/host/proc' })).toThrow('pidusage does not read /host/proc');
    expect(() => createSampler('pidusage', [], { extras: ['open_fds'] })).toThrow('pidusage does not know open_fds');
  });

  test('of another namespace has a cursor of its own, which is not ours even where the ids happen to be equal', () => {
    const seen = (): number[] => {
      const table = new ProcessTable(new ProcFiles(fake.root), { readsCommands: false });
      table.refresh(0);
      fake.put(50, {}); // without moving the cursor
      table.refresh(1_000);
      const found = table.get(50) === undefined ? [] : [50];
      fake.end(50);
      return found;
    };
    showAs(`${process.pid}`);
    expect(namespaceDepth(new ProcFiles(fake.root))).toBe(1);
    expect(seen(), 'the cursor says that nothing was started').toEqual([]);
    showAs(`${process.pid}\t17`);
    expect(namespaceDepth(new ProcFiles(fake.root))).toBe(2);
    expect(seen()).toEqual([50]);
  });
});
