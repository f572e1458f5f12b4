import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ProcFiles } from '../../services/collector/procfs/proc-files.ts';
import { ProcessTable } from '../../services/collector/procfs/process-table.ts';
import { FakeProcfs } from '../support/fake-procfs.ts';

let proc: FakeProcfs;
beforeEach(() => {
  proc = new FakeProcfs();
  proc.put(1, { ppid: 0, startTicks: 1 });
  proc.put(50, { ppid: 1 });
  proc.put(51, { ppid: 50 });
  proc.put(52, { ppid: 51 });
});
afterEach(() => proc.remove());

function openTable(options: { readsCommands?: boolean; usesCursor?: boolean } = {}): ProcessTable {
  const table = new ProcessTable(new ProcFiles(proc.root), { readsCommands: false, ...options });
  table.refresh(0);
  return table;
}
const examined = (table: ProcessTable): [number, string][] => table.examined.map((entry) => [entry.pid, entry.commandLine]);

describe('ProcessTable', () => {
  test('finds descendants, parents first, each once, and keeps ids it does not know', () => {
    const table = openTable();
    expect(table.withDescendants([50])).toEqual([50, 51, 52]);
    expect(table.withDescendants([51, 50])).toEqual([51, 50, 52]);
    expect(table.withDescendants([777])).toEqual([777]);
    expect(table.withDescendants([])).toEqual([]);
  });

  test('while the cursor stands still nothing is looked at; when it moves, the new process is found', () => {
    const table = openTable();
    const version = table.version;
    proc.put(60, { ppid: 52 }); // behind the kernel's back
    table.refresh(1_000);
    expect(table.version).toBe(version);
    proc.spawn(101, { ppid: 52 });
    table.refresh(2_000);
    expect(table.withDescendants([50]).sort((a, b) => a - b)).toEqual([50, 51, 52, 60, 101]);
  });

  test('an id the cursor has passed over is looked at again: it may be another process', () => {
    const table = openTable();
    proc.put(51, { ppid: 1, startTicks: 900 });
    proc.setCursor(51); // wrapped around: from 100 over the end to 51
    table.refresh(1_000);
    expect(table.get(51)).toMatchObject({ ppid: 1, startTicks: 900 });
    expect(table.removed.map((entry) => entry.pid)).toEqual([51]);
  });

  test('the id the cursor stands on is the newest of all', () => {
    proc.put(110, { ppid: 50 });
    const table = openTable();
    proc.spawn(110, { ppid: 1, startTicks: 900 });
    table.refresh(1_000);
    expect(table.get(110)).toMatchObject({ ppid: 1, startTicks: 900 });
  });

  test('the cursor of another pid namespace is not used', () => {
    proc.setSelf(7);
    const table = openTable();
    proc.put(60, { ppid: 52 });
    table.refresh(1);
    expect(table.get(60)).toBeDefined();
  });

  test('a known process outside of what the cursor passed is not read again', () => {
    const table = openTable();
    proc.put(51, { ppid: 1, startTicks: 900 });
    proc.spawn(101, {});
    table.refresh(1_000);
    expect(table.get(51)).toMatchObject({ ppid: 50, startTicks: 10 });
    table.refresh(30_000);
    expect(table.get(51), 'until everything is looked at').toMatchObject({ ppid: 1, startTicks: 900 });
  });

  test('children of a process that ended get their new parent', () => {
    const table = openTable();
    proc.end(51);
    proc.put(52, { ppid: 1 });
    table.noteVanished();
    table.refresh(1_000);
    expect(table.withDescendants([50])).toEqual([50]);
    expect(table.withDescendants([1])).toEqual([1, 50, 52]);
  });

  test('a parent that started after its child is a stranger under a reused id', () => {
    const table = openTable();
    proc.put(51, { ppid: 1, startTicks: 900 });
    proc.put(52, { ppid: 1 });
    proc.setCursor(51);
    table.refresh(1_000);
    expect(table.withDescendants([51])).toEqual([51]);
  });

  test('without a usable cursor every look reads everything', () => {
    const table = openTable({ usesCursor: false });
    proc.put(51, { ppid: 1, startTicks: 900 });
    table.refresh(1);
    expect(table.get(51)?.startTicks).toBe(900);
  });

  test('command lines are read while a process is young, then with each look at everything', () => {
    proc.put(50, { command: ['sh', '-c', 'exec server'] });
    const table = openTable({ readsCommands: true });
    expect(examined(table)).toContainEqual([50, 'sh -c exec server']);
    proc.put(50, { command: ['server', '--port', '80'] });
    table.refresh(9_000);
    expect(examined(table)).toContainEqual([50, 'server --port 80']);
    table.refresh(10_000);
    table.refresh(11_000);
    expect(examined(table), 'old now').toEqual([]);
    proc.put(50, { command: ['server: idle'] });
    table.refresh(29_999);
    expect(examined(table)).toEqual([]);
    table.refresh(30_000);
    expect(table.get(50)?.commandLine).toBe('server --port 80');
    table.refresh(60_000);
    expect(examined(table)).toContainEqual([50, 'server: idle']);
  });

  test('a process without arguments shows its name in brackets, and one that exited keeps what it had', () => {
    proc.put(50, { command: [], comm: 'kthread a' });
    const table = openTable({ readsCommands: true });
    expect(table.get(50)?.commandLine).toBe('[kthread a]');
    expect(table.get(51)?.commandLine).toBe('prog');
    proc.put(51, { ppid: 50, command: [], state: 'Z' });
    table.refresh(1_000);
    expect(table.get(51)?.commandLine).toBe('prog');
  });

  test('a command line is cut at 4 KiB and its padding is gone', () => {
    proc.put(50, { command: ['x'.repeat(5000)] });
    proc.put(51, { command: ['nginx: worker', '', '', '  '] });
    const table = openTable({ readsCommands: true });
    expect(table.get(50)?.commandLine).toHaveLength(4096);
    expect(table.get(51)?.commandLine).toBe('nginx: worker');
  });
});
