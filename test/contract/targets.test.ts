import { userInfo } from 'node:os';
import { afterEach, describe, expect, test } from 'vitest';
import { explainTargets } from '../../services/collector/targets.ts';
import { eventually } from '../support/eventually.ts';
import { endProcesses, startProcess } from '../support/test-processes.ts';

afterEach(() => endProcesses());
const explain = (units: Parameters<typeof explainTargets>[0]['units']) => explainTargets({ units });

describe('explainTargets', () => {
  test('says which processes a unit consists of, and why', async () => {
    const token = `spillway-targets-${process.pid}`;
    const parent = startProcess('sh', ['-c', `: ${token}; sleep 1000 & wait`]);
    await eventually(() => {
      const [byMatch, byPid] = explain({ m: { match: token, tree: true }, p: { pid: parent.pid, tree: false } });
      expect(byMatch).toMatchObject({
        unit: 'm',
        rule: `match /${token}/`,
        state: 'running',
        reason: null,
        processes: [
          {
            pid: parent.pid,
            ppid: process.pid,
            user: userInfo().username,
            command: `sh -c : ${token}; sleep 1000 & wait`,
            why: 'its command line matches',
          },
          { ppid: parent.pid, command: 'sleep 1000', why: `child of ${parent.pid}` },
        ],
      });
      expect(byPid).toMatchObject({
        rule: `pid ${parent.pid}`,
        state: 'running',
        processes: { length: 1, 0: { why: 'named in the configuration' } },
      });
    });
  });

  test('and why there is none', () => {
    expect(
      explain({
        gone: { pid: 4_194_303, tree: true },
        file: { pidfile: '/nonexistent/x.pid', tree: true },
        none: { match: 'spillway-nothing-is-[c]alled-like-this', tree: true },
        me: { self: true, tree: true },
      }).map(({ unit, state, processes, reason }) => [unit, state, processes.length, reason]),
    ).toEqual([
      ['gone', 'missing', 0, 'process 4194303 does not exist'],
      ['file', 'missing', 0, '/nonexistent/x.pid does not exist'],
      ['none', 'missing', 0, 'no process has a command line that matches /spillway-nothing-is-[c]alled-like-this/'],
      ['me', 'missing', 0, "is the collector's own process, while it runs"],
    ]);
  });

  test('the program that asks does not match itself', () => {
    const [own] = explain({ all: { match: '.', tree: false } });
    expect(own?.processes.length).toBeGreaterThan(0);
    expect(own?.processes.map((one) => one.pid)).not.toContain(process.pid);
  });

  test('a hostile command line cannot drive the terminal that shows it', async () => {
    const token = `spillway-hostile-${process.pid}`;
    startProcess('sh', ['-c', `: ${token} '\x1b[2J\u202e\n'; sleep 1000`]);
    await eventually(() => {
      const command = explain({ m: { match: `: ${token}`, tree: false } })[0]?.processes[0]?.command;
      expect(command).toBe(`sh -c : ${token} '?[2J??'; sleep 1000`);
    });
  });
});
