import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Rule, UnitTarget } from '../../services/collector/core/unit-target.ts';
import { ProcFiles } from '../../services/collector/procfs/proc-files.ts';
import { UnitResolver, type UnitResolverOptions } from '../../services/collector/procfs/unit-resolver.ts';
import { FakeProcfs } from '../support/fake-procfs.ts';

let proc: FakeProcfs;
beforeEach(() => {
  proc = new FakeProcfs();
});
afterEach(() => proc.remove());

const target = (unit: string, rule: Rule, fields: Partial<UnitTarget> = {}): UnitTarget => ({ unit, rule, tree: true, ...fields });
const match = (expression: RegExp, user: string | null = null): Rule => ({ kind: 'match', expression, user });

/** Looks a second later each time. */
function open(targets: UnitTarget[], options: UnitResolverOptions = {}) {
  const resolver = new UnitResolver(new ProcFiles(proc.root), targets, { usesCursor: false, excludedPid: process.pid, ...options });
  let nowMs = 0;
  const look = () => {
    nowMs += 1_000;
    return resolver.resolve(nowMs);
  };
  return {
    resolver,
    look,
    roots: () => Object.fromEntries(look().map(({ unit, roots, reason }) => [unit, reason ?? roots])),
    members: () => Object.fromEntries(look().map(({ unit, members }) => [unit, members])),
  };
}

describe('names for many units', () => {
  test('a match is one unit, and with a name as many as there are names', () => {
    for (const [pid, command] of [
      [50, 'worker 1'],
      [51, 'worker 2'],
      [52, 'worker 2'],
      [53, 'other'],
    ] as const)
      proc.put(pid, { command: command.split(' '), startTicks: pid });
    expect(open([target('w', match(/^worker (\d)/))]).roots()).toEqual({ w: [50, 51, 52] });
    const { roots } = open([target('w', match(/^worker (?<n>\d)/), { name: 'w{match.1}-{match.n}' })]);
    expect(roots()).toEqual({ 'w1-1': [50], 'w2-2': [51, 52] });
  });

  test('by name, user, control group and id of the process; of one that lacks a value there is no unit', () => {
    const passwdPath = join(proc.root, 'passwd');
    writeFileSync(passwdPath, 'app:x:1000:1000::/:/bin/sh\n');
    proc.put(50, { command: ['x'], comm: 'ngi nx', uid: 1000, cgroup: '1:name=systemd:/s\n0::/web.slice\n' });
    proc.put(51, { command: ['x'], comm: 'sh', uid: 7 });
    const { roots } = open([target('x', match(/^x( y)?/), { name: '{comm}|{user}|{cgroup}|{pid}' })], { passwdPath });
    expect(roots()).toEqual({ 'ngi nx|app|/web.slice|50': [50], 'sh|7|/|51': [51] });
    expect(open([target('x', match(/^x( y)?/), { name: '{match.1}' })]).roots()).toEqual({});
  });

  test('a process that takes another name moves; a unit without processes is missing once, then no more', () => {
    proc.put(50, { command: ['x'], comm: 'a' });
    const { roots } = open([target('x', match(/^x/), { name: '{comm}' })]);
    expect(roots()).toEqual({ a: [50] });
    proc.put(50, { command: ['x'], comm: 'b' });
    expect(roots()).toEqual({ b: [50], a: 'its last process has gone' });
    proc.end(50);
    expect(roots()).toEqual({ b: 'its last process has gone' });
    expect(roots()).toEqual({});
  });

  test('a name that another unit has gets the key of its rule behind it; the configured one keeps its own', () => {
    proc.put(50, { command: ['x'], comm: 'db' });
    proc.put(51, { command: ['y'], comm: 'db' });
    const targets = [
      target('many', match(/^x/), { name: '{comm}' }),
      target('more', match(/^y/), { name: '{comm}' }),
      target('db', { kind: 'pid', pid: 1 }),
    ];
    expect(open(targets).roots()).toEqual({ 'db@many': [50], 'db@more': [51], db: [1] });
    expect(open(targets.slice(0, 2)).roots()).toEqual({ db: [50], 'db@more': [51] });
  });
});

describe('control groups', () => {
  test('all that is in one and below it, without descendants that have left it', () => {
    proc.put(50, { startTicks: 10, cgroup: '0::/a/web\n' });
    proc.put(51, { startTicks: 20, ppid: 50, cgroup: '0::/a/web/sub\n' });
    proc.put(52, { startTicks: 30, ppid: 50, cgroup: '0::/b\n' });
    const { members } = open([target('web', { kind: 'cgroup', pattern: '/a/web' }), target('pid', { kind: 'pid', pid: 50 })]);
    expect(members()).toEqual({ web: [50, 51], pid: [50, 51, 52] });
  });

  test('a glob is one unit, or many by name', () => {
    proc.put(50, { startTicks: 10, cgroup: '0::/s/a.service\n' });
    proc.put(51, { startTicks: 20, cgroup: '0::/s/b.service/x\n' });
    const rule: Rule = { kind: 'cgroup', pattern: '/s/*.service' };
    expect(open([target('s', rule)]).roots()).toEqual({ s: [50, 51] });
    expect(open([target('s', rule, { name: '{cgroup}' })]).roots()).toEqual({ '/s/a.service': [50], '/s/b.service': [51] });
    expect(open([target('s', { kind: 'systemd', pattern: '*' }, { name: '{cgroup}' })]).roots()).toEqual({
      'a.service': [50],
      'b.service': [51],
    });
  });

  test('nobody in it, and who is moved into it, young or old', () => {
    const { roots } = open([target('db', { kind: 'systemd', pattern: 'db' })]);
    expect(roots()).toEqual({ db: 'no process is in the control group of systemd unit db' });
    proc.put(50, {});
    roots();
    proc.put(50, { cgroup: '0::/system.slice/db.service\n' });
    expect(roots()).toEqual({ db: [50] });
    for (let i = 0; i < 20; i++) roots();
    proc.put(50, { cgroup: '0::/\n' });
    for (let i = 0; i < 5; i++) roots();
    expect(roots(), 'old ones are looked at every five seconds').toEqual({
      db: 'no process is in the control group of systemd unit db',
    });
  });

  test('a container by id, and by the name that Docker knows it by, which may be made anew', () => {
    const dockerRoot = join(proc.root, 'docker');
    const [first, second] = ['a'.repeat(64), 'b'.repeat(64)] as const;
    const container = (id: string, config: string): void => {
      mkdirSync(join(dockerRoot, 'containers', id), { recursive: true });
      writeFileSync(join(dockerRoot, 'containers', id, 'config.v2.json'), config);
    };
    proc.put(50, { startTicks: 10, cgroup: `0::/docker/${first}\n` });
    proc.put(60, { startTicks: 20, cgroup: `0::/system.slice/docker-${second}.scope\n` });
    container(first, '{"Name":"/web"}');
    const targets = [
      target('name', { kind: 'container', container: 'web' }),
      target('id', { kind: 'container', container: second.slice(0, 12) }),
      target('none', { kind: 'container', container: 'nope' }),
    ];
    const { roots } = open(targets, { dockerRoot });
    expect(roots()).toEqual({ name: [50], id: [60], none: 'no process is in a control group of container nope' });
    rmSync(join(dockerRoot, 'containers', first), { recursive: true });
    container(second, '{"Name":"/w');
    expect(roots()).toMatchObject({ name: 'no process is in a control group of container web' });
    container(second, '{"Name":"/web"}');
    expect(roots(), 'as soon as its file is whole').toMatchObject({ name: [60] });
    container(second, '{"Name":"/renamed"}');
    for (let i = 0; i < 30; i++) roots();
    expect(roots(), 'after half a minute').toMatchObject({ name: 'no process is in a control group of container web' });
    mkdirSync(join(proc.root, 'bad'));
    writeFileSync(join(proc.root, 'bad/containers'), '');
    expect(open(targets.slice(2), { dockerRoot: join(proc.root, 'bad') }).roots()).toEqual({
      none: `no process is in a control group of container nope; ${proc.root}/bad/containers cannot be read (ENOTDIR), so containers are known by their ids only`,
    });
  });
});

describe('children of a unit, and all processes', () => {
  test('children are units of their own, with their descendants; grandchildren are none', () => {
    proc.put(50, { startTicks: 10 });
    proc.put(51, { startTicks: 20, ppid: 50, comm: 'a' });
    proc.put(52, { startTicks: 30, ppid: 50, comm: 'b' });
    proc.put(53, { startTicks: 40, ppid: 52, comm: 'c' });
    proc.put(54, { startTicks: 50, ppid: 50, comm: 'b' });
    const targets = [
      target('kids', { kind: 'parent', parent: 'main' }, { name: '{parent}/{comm}' }),
      target('main', { kind: 'pid', pid: 50 }),
      target('idle', { kind: 'parent', parent: 'gone' }, { name: '{comm}' }),
      target('gone', { kind: 'pid', pid: 99 }),
    ];
    const { members, resolver } = open(targets);
    expect(members()).toEqual({ 'main/a': [51], 'main/b': [52, 54, 53], main: [50, 51, 52, 54, 53], gone: [99] });
    expect(resolver.absences()).toEqual([null, null, 'gone has no child processes', null]);
  });

  test('a process cannot take the name of the sum of the others', () => {
    proc.put(50, { command: ['x'], comm: '__other__' });
    expect(open([target('x', match(/^x/), { name: '{comm}' })]).roots()).toEqual({ '__other__@x': [50] });
  });

  test('of all processes the collector is none where it is a unit of its own: nothing is summed twice', () => {
    proc.put(50, {});
    const all = target('all', { kind: 'all', top: 3, by: 'cpu' }, { name: '{pid}', tree: false });
    const self = target('me', { kind: 'self' }, { tree: false });
    expect(open([all], { excludedPid: 0 }).roots()).toEqual({ 50: [50], [process.pid]: [process.pid] });
    expect(open([all, self], { excludedPid: 0 }).roots()).toEqual({ 50: [50], me: [process.pid] });
  });

  test('of all processes each is in one unit', () => {
    for (const pid of [50, 51, 52]) proc.put(pid, { ppid: pid - 1, startTicks: pid, comm: pid === 51 ? 'sh' : 'x' });
    const { members } = open([target('all', { kind: 'all', top: 3, by: 'cpu' }, { name: '{comm}', tree: false })]);
    expect(members()).toEqual({ x: [50, 52], sh: [51] });
  });
});

describe('systemg', () => {
  const write = (file: string, text: string): void => {
    mkdirSync(join(proc.root, 'systemg', file, '..'), { recursive: true });
    writeFileSync(join(proc.root, 'systemg', file), text);
  };
  const service = (name: string, pid: number): string => `<services><name>${name}</name><pid>${pid}</pid></services>`;
  const opened = (fields: Partial<UnitTarget> = {}) =>
    open([target('sg', { kind: 'systemg', directory: join(proc.root, 'systemg') }, fields)]);

  test('each service is a unit by its name, with its tree: the process is often a shell', () => {
    proc.put(50, { startTicks: 10 });
    proc.put(51, { startTicks: 20, ppid: 50 });
    write('pid.xml', `<PidFile>${service('api', 50)}</PidFile>`);
    write('projects/shop/pid.xml', `<PidFile>${service('api', 51)}</PidFile>`);
    expect(opened().members()).toEqual({ api: [50, 51], 'shop/api': [51] });
    expect(opened({ name: '{project}.{service}' }).members()).toEqual({ 'none.api': [50, 51], 'shop.api': [51] });
  });

  test('a service that has died and whose supervisor has not noticed is missing; one that finished is none', () => {
    proc.put(50, { startTicks: 10 });
    const running = `<PidFile>${service('api', 50)}</PidFile>`;
    write('pid.xml', running);
    const { roots, resolver } = opened();
    expect(roots()).toEqual({ api: [50] });
    proc.end(50);
    expect(roots()).toEqual({ api: 'systemg says that api runs, but process 50 does not exist' });
    write('pid.xml', '<PidFile/>');
    expect(roots()).toEqual({});
    expect(resolver.absences()).toEqual(['systemg runs no service']);
  });

  test('a stranger under the id of a service is not it', () => {
    proc.put(50, { startTicks: 10 });
    const start = (ticks: number): string => `<service_starts><name>api</name><started>${ticks}</started></service_starts>`;
    write('pid.xml', `<PidFile>${service('api', 50)}${start(9)}</PidFile>`);
    expect(opened().roots()).toEqual({ api: 'systemg says that api runs, but process 50 is not the one that systemg started' });
    write('pid.xml', `<PidFile>${service('api', 50)}${start(10)}</PidFile>`);
    expect(opened().roots()).toEqual({ api: [50] });
  });

  test('what only state.xml calls running counts while its process is there', () => {
    proc.put(50, { startTicks: 10 });
    const state = (key: string, pid: number): string =>
      `<services><name>${key}</name><state><status>running</status><pid>${pid}</pid></state></services>`;
    write('state.xml', `<ServiceStateFile>${state('v2:shop:api', 50)}${state('v2:shop:ghost', 77)}</ServiceStateFile>`);
    expect(opened().roots()).toEqual({ 'shop/api': [50] });
  });

  test('says why there is none', () => {
    const { roots, resolver } = opened();
    expect(roots()).toEqual({});
    expect(resolver.absences()).toEqual([`${proc.root}/systemg has neither pid.xml nor state.xml`]);
  });
});
