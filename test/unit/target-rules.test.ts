import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { collectorTargets, describeRule, OWN_UNIT, unitTargets } from '../../services/collector/core/unit-target.ts';
import { readUsers } from '../../services/collector/procfs/passwd.ts';
import { readPidfile } from '../../services/collector/procfs/unit-resolver.ts';

const directory = mkdtempSync(join(tmpdir(), 'spillway-pidfile-'));
afterAll(() => rmSync(directory, { recursive: true }));

function pidfile(content: string): ReturnType<typeof readPidfile> {
  const path = join(directory, 'x.pid');
  writeFileSync(path, content);
  return readPidfile(path);
}

describe('readPidfile', () => {
  test('takes one number, with space around it, and ignores further lines', () => {
    for (const content of ['812', '812\n', '  812 \r\n', '812\n/var/lib/db\n1763670000\n'])
      expect(pidfile(content), content).toEqual({ pid: 812 });
    expect(pidfile('4194304')).toEqual({ pid: 4194304 });
  });

  test('everything else is missing, with the reason', () => {
    expect(pidfile('')).toMatchObject({ reason: expect.stringMatching(/is empty$/) });
    expect(pidfile('\n')).toMatchObject({ reason: expect.stringMatching(/is empty$/) });
    for (const content of ['0', '-1', '1e3', '0x10', '812 813', 'pid', '4194305', '99999999999', '\0\0', `${'9'.repeat(200)}`]) {
      expect(pidfile(content), content).toMatchObject({ reason: expect.stringMatching(/does not hold a process id$/) });
    }
    expect(readPidfile(join(directory, 'absent'))).toEqual({ reason: `${join(directory, 'absent')} does not exist` });
    expect(readPidfile(directory)).toEqual({ reason: `${directory} cannot be read: EISDIR` });
  });

  test('a pipe in its place does not block', () => {
    const path = join(directory, 'pipe');
    execFileSync('mkfifo', [path]);
    expect(readPidfile(path)).toHaveProperty('reason');
  });
});

test('units of the configuration become targets, in its order', () => {
  const targets = unitTargets({
    api: { pidfile: '/run/api.pid', tree: true },
    workers: { match: 'python .*worker', user: 1000, tree: false },
    one: { pid: 7, tree: true },
    me: { self: true, tree: true },
  });
  expect(targets.map(({ unit, rule, tree }) => [unit, describeRule(rule), tree])).toEqual([
    ['api', 'pidfile /run/api.pid', true],
    ['workers', 'match /python .*worker/ of user 1000', false],
    ['one', 'pid 7', true],
    ['me', 'self', true],
  ]);
});

test('a collector watches itself after its units, unless it does already, its name is taken, or nobody wants it', () => {
  const namesOf = (units: Parameters<typeof unitTargets>[0], own_unit = true) =>
    collectorTargets({ units, own_unit }).map(({ unit }) => unit);
  const a = { pid: 7, tree: true };
  expect(namesOf({ a })).toEqual(['a', 'spillway-collector']);
  expect(collectorTargets({ units: {}, own_unit: true })).toEqual([{ unit: OWN_UNIT, rule: { kind: 'self' }, tree: false }]);
  expect(namesOf({ a }, false)).toEqual(['a']);
  expect(namesOf({ a, me: { self: true, tree: true } })).toEqual(['a', 'me']);
  expect(collectorTargets({ units: { [OWN_UNIT]: a }, own_unit: true })).toEqual(unitTargets({ [OWN_UNIT]: a }));
});

test('users: the first of a name counts, digits are a number, a host without the file has numbers only', () => {
  const path = join(directory, 'passwd');
  writeFileSync(path, 'root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\napp:x:1000:1::/:/bin/sh\napp:x:1001:1::/:/bin/sh\n# comment\n');
  const users = readUsers(path);
  expect([users.uidOf('app'), users.uidOf('33'), users.uidOf('nobody-here')]).toEqual([1000, 33, null]);
  expect([users.nameOf(0), users.nameOf(33)]).toEqual(['root', '33']);
  expect(readUsers('/nonexistent').uidOf('0')).toBe(0);
});
