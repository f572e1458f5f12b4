// Each kind of target against real processes: what the kernel says of them is what the rules go by.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { unitTargets } from '../../services/collector/core/unit-target.ts';
import { UnitWatch } from '../../services/collector/core/unit-watch.ts';
import { ProcfsSampler } from '../../services/collector/procfs/sampler.ts';
import { createSampler } from '../../services/collector/sampler.ts';
import { explainTargets } from '../../services/collector/targets.ts';
import { eventually } from '../support/eventually.ts';
import { makeCgroup, moveInto, removeCgroups, writableHierarchies } from '../support/test-cgroups.ts';
import { BUSY, endProcesses, firstLine, startProcess } from '../support/test-processes.ts';

type Units = Parameters<typeof unitTargets>[0];

let directory: string;
const samplers: ProcfsSampler[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'spillway-kinds-'));
});
afterEach(async () => {
  for (const sampler of samplers.splice(0)) sampler.close();
  await endProcesses();
  await eventually(removeCgroups); // a group is empty a moment after its last process has ended
  rmSync(directory, { recursive: true });
});

/** Takes a sample of each unit, by name. */
function open(units: Units, dockerRoot?: string) {
  const sampler = new ProcfsSampler(unitTargets(units), dockerRoot === undefined ? {} : { dockerRoot });
  samplers.push(sampler);
  const watch = new UnitWatch();
  return () => {
    const readings = sampler.sample();
    const names = sampler.units.map(({ unit }) => unit);
    const { samples } = watch.observe(names, readings);
    return new Map(names.map((unit, i) => [unit, { sample: samples[i], reading: readings[i] }]));
  };
}

/** A shell that has started a child. */
async function startTree(): Promise<{ pid: number; child: number }> {
  const shell = startProcess('sh', ['-c', 'sleep 1000 & echo $!; wait']);
  return { pid: shell.pid, child: Number(await firstLine(shell)) };
}

const hierarchies = writableHierarchies();

describe.skipIf(hierarchies.length === 0)('control groups (skipped where this user may make none)', () => {
  describe.each(hierarchies)('in %s', (hierarchy) => {
    test('by systemd unit, by path and glob, by container: its processes and those below, and nobody else', async () => {
      const top = `spillway-${process.pid}`;
      const id = 'c0ffee'.padEnd(64, '0');
      const service = makeCgroup(hierarchy, `${top}/${top}-db.service`);
      const inner = makeCgroup(hierarchy, `${top}/${top}-db.service/payload`);
      const container = makeCgroup(hierarchy, `${top}/docker-${id}.scope`);
      const tree = await startTree();
      moveInto(service, tree.pid); // its child stays where it was
      const [nested, contained] = [startProcess('sleep', ['1000']), startProcess('sleep', ['1000'])];
      moveInto(inner, nested.pid);
      moveInto(container, contained.pid);
      mkdirSync(join(directory, 'containers', id), { recursive: true });
      writeFileSync(join(directory, 'containers', id, 'config.v2.json'), '{"Name":"/web"}');
      const sample = open(
        {
          db: { systemd: `${top}-db`, tree: true },
          byPath: { cgroup: service, tree: true },
          byKernelPath: { cgroup: `/${top}/${top}-db.service/payload`, tree: true },
          many: { cgroup: `/${top}/*`, name: 'group {cgroup}', tree: true },
          web: { container: 'web', tree: true },
          webById: { container: id.slice(0, 12), tree: true },
          none: { systemd: `${top}-none`, tree: true },
        },
        directory,
      );
      const pids = [...sample()].map(([unit, { reading }]) => [
        unit,
        reading?.state === 'missing' ? reading.reason : reading?.processes.map((process) => process.pid),
      ]);
      expect(Object.fromEntries(pids)).toEqual({
        db: [tree.pid, nested.pid],
        byPath: [tree.pid, nested.pid],
        byKernelPath: [nested.pid],
        [`group /${top}/${top}-db.service`]: [tree.pid, nested.pid],
        [`group /${top}/docker-${id}.scope`]: [contained.pid],
        web: [contained.pid],
        webById: [contained.pid],
        none: `no process is in the control group of systemd unit ${top}-none`,
      });
      const byName: Units = { web: { container: 'web', tree: true } };
      const pidsOf = (docker_root: string) => explainTargets({ units: byName, docker_root })[0]?.processes.map(({ pid }) => pid);
      expect(pidsOf(directory), 'as `docker_root` says').toEqual([contained.pid]);
      expect(pidsOf(join(directory, 'elsewhere'))).toEqual([]);
      const collecting = createSampler('auto', unitTargets(byName), { dockerRoot: directory });
      expect(await collecting.sample()).toMatchObject([{ state: 'running', pid: contained.pid }]);
      collecting.close();
    });
  });
});

describe('systemg', () => {
  const pidXml = (name: string, pid: number): string =>
    `<PidFile>\n  <services>\n    <name>${name}</name>\n    <pid>${pid}</pid>\n  </services>\n</PidFile>\n`;

  test('a service is its shell and what that runs; a torn file in between changes nothing; a restart keeps the series', async () => {
    const tree = await startTree();
    const file = join(directory, 'pid.xml');
    writeFileSync(file, pidXml('api', tree.pid));
    const sample = open({ sg: { systemg: directory, tree: true } });
    const threads = () => sample().get('api')?.sample;
    expect(threads()).toMatchObject({ state: 'running', pid: tree.pid, metrics: { threads: 2, cpu_percent: null } });
    writeFileSync(file, pidXml('api', 1).slice(0, 40));
    expect(threads()).toMatchObject({ pid: tree.pid, metrics: { threads: 2, cpu_percent: expect.any(Number) } });
    const next = await startTree();
    writeFileSync(file, pidXml('api', next.pid));
    expect(threads()).toMatchObject({ pid: next.pid, metrics: { threads: 2, cpu_percent: null } });
    writeFileSync(file, '<PidFile/>');
    expect([...sample()].map(([unit, one]) => [unit, one.sample?.state])).toEqual([['api', 'missing']]);
    expect(sample().size, 'not for ever').toBe(0);
  });
});

test('other targets take the place of the first between two samples, and go on with what systemg last said', async () => {
  const tree = await startTree();
  const file = join(directory, 'pid.xml');
  writeFileSync(file, `<PidFile><services><name>api</name><pid>${tree.pid}</pid></services></PidFile>`);
  const sampler = new ProcfsSampler(unitTargets({ sg: { systemg: directory, tree: true }, a: { pid: tree.pid, tree: true } }));
  samplers.push(sampler);
  expect(sampler.sample()).toMatchObject([{ pid: tree.pid }, { pid: tree.pid }]);
  writeFileSync(file, '<PidFile><ser');
  sampler.retarget(unitTargets({ b: { pid: tree.child, tree: true }, sg: { systemg: directory, tree: true } }));
  expect(sampler.sample()).toMatchObject([{ pid: tree.child }, { pid: tree.pid }]);
  expect(sampler.units.map(({ unit }) => unit)).toEqual(['b', 'api']);
});

describe('children and all processes', () => {
  test('children of a unit are units, by their names', async () => {
    const shell = startProcess('sh', ['-c', `sleep 1000 & ${process.execPath} -e '${BUSY}' & echo; wait`]);
    await firstLine(shell);
    const sample = open({ main: { pid: shell.pid, tree: false }, kids: { parent: 'main', tree: true } });
    await eventually(() => expect([...sample().keys()].sort().slice(-3)).toEqual(['main', 'main/node', 'main/sleep']));
  });

  test('every process of the host is in one unit, once', async () => {
    const { pid, child } = await startTree();
    const sample = open({ all: { all: true, name: '{comm}', tree: true } });
    const units = [...sample().values()];
    const pids = units.flatMap(({ reading }) => (reading?.state === 'missing' ? [] : (reading?.processes.map((one) => one.pid) ?? [])));
    expect(new Set(pids).size).toBe(pids.length);
    expect(pids).toEqual(expect.arrayContaining([1, pid, child, process.pid]));
  });
});

describe('spillway targets', () => {
  const rootOnly = process.getuid?.() !== 0;

  test.skipIf(rootOnly)('names those that match but for their user (skipped unless run as root)', async () => {
    const seconds = `1000.${process.pid}`; // by which they are told from all others
    const own = startProcess('sleep', [seconds]);
    const other = startProcess('setpriv', ['--reuid=65534', '--clear-groups', 'sleep', seconds]);
    const match = `^sleep ${seconds}$`;
    await eventually(() => {
      const [found] = explainTargets({ units: { m: { match, user: 'root', tree: false } } });
      expect(found).toMatchObject({ processes: { length: 1, 0: { pid: own.pid } } });
      expect(found?.others).toMatchObject([{ pid: other.pid, user: 'nobody', why: 'matches, but is not of user root' }]);
    });
    const [none] = explainTargets({ units: { m: { match, user: 'bin', tree: false } } });
    expect(none).toMatchObject({ state: 'missing', others: { length: 2 }, reason: expect.stringMatching(/^2 processes match/) });
  });

  test('says that a process has exited and was not waited for, and why a rule gives nothing', async () => {
    const parent = startProcess('sh', ['-c', 'sleep 1000 & echo $!; exec sleep 1000']);
    const zombie = Number(await firstLine(parent));
    // The shell would wait for it, what it becomes does not.
    await eventually(() => expect(readFileSync(`/proc/${parent.pid}/comm`, 'latin1')).toBe('sleep\n'));
    process.kill(zombie, 'SIGKILL');
    await eventually(() => {
      const found = explainTargets({ units: { z: { pid: zombie, tree: true }, sg: { systemg: directory, tree: true } } });
      expect(found).toMatchObject([
        { unit: 'z', state: 'zombie', processes: [{ pid: zombie, problem: 'has exited, and its parent has not waited for it' }] },
        { unit: 'sg', rule: `systemg ${directory}`, state: 'missing', reason: `${directory} has neither pid.xml nor state.xml` },
      ]);
    });
  });

  test('units of a rule that gives many are there by their names, each with its rule', async () => {
    const token = `spillway-many-${process.pid}`;
    const started = ['1', '2'].map((n) => startProcess('sleep', ['1000'], { argv0: `${token}-${n}` }));
    await eventually(() => {
      const found = explainTargets({ units: { w: { match: `^${token}-(\\d)`, name: 'w{match.1}', tree: false } } });
      expect(found.map(({ unit, processes }) => [unit, processes[0]?.pid])).toEqual([
        ['w1', started[0]?.pid],
        ['w2', started[1]?.pid],
      ]);
    });
  });
});
