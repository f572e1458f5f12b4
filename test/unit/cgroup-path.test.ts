import { describe, expect, test } from 'vitest';
import { cgroupMatcher, containerMatcher, ownCgroup, parseCgroups, systemdMatcher } from '../../services/collector/core/cgroup-path.ts';

const ID = 'bceedb5137bbd4230e1ec093c91572260123456789abcdef0123456789abcdef';
const v2 = (path: string) => parseCgroups(`0::${path}\n`);

describe('parseCgroups', () => {
  test('lines of both versions; a path may have colons, and be of a group that was deleted', () => {
    const text = '9:name=systemd:/a\n2:cpu,cpuacct:/x:y\n0::/gone (deleted)\nnonsense\n';
    expect(parseCgroups(text)).toEqual([
      { controllers: 'name=systemd', path: '/a' },
      { controllers: 'cpu,cpuacct', path: '/x:y' },
      { controllers: '', path: '/gone' },
    ]);
  });

  test.each([
    ['0::/v2\n1:name=systemd:/s\n', '/v2'],
    ['2:cpu:/c\n1:name=systemd:/s\n0::/\n', '/s'],
    ['2:cpu:/c\n1:name=systemd:/\n0::/\n', '/c'],
    ['0::/\n', '/'],
    ['', '/'],
  ])('the one that says most of %j is %s', (text, expected) => {
    expect(ownCgroup(parseCgroups(text))).toBe(expected);
  });
});

describe('cgroupMatcher', () => {
  test.each([
    ['/a/b', '/a/b', '/a/b'],
    ['/a/b/', '/a/b', '/a/b'],
    ['/a/b', '/a/b/c/d', '/a/b'],
    ['/a/b', '/a/bc', null],
    ['/a/b', '/a', null],
    ['/a/*.service', '/a/db.service/init', '/a/db.service'],
    ['/a/*', '/a', null],
    ['/*/b', '/x/y/b', null],
    ['/a/b?', '/a/b1', '/a/b1'],
    ['/a/b?', '/a/b', null],
    ['/a.c', '/abc', null],
    ['/a[b]+(c)', '/a[b]+(c)', '/a[b]+(c)'],
    ['/', '/', '/'],
  ])('%s in %s is %s', (pattern, path, expected) => {
    expect(cgroupMatcher(pattern)(v2(path))).toBe(expected);
  });

  test('a path as it is mounted: of version 2, and of a hierarchy of version 1', () => {
    const cgroups = parseCgroups('3:cpu,cpuacct:/c\n2:pids:/p\n1:name=systemd:/s\n0::/u\n');
    for (const path of ['/u', '/unified/u', '/pids/p', '/cpu/c', '/cpuacct/c', '/cpu,cpuacct/c', '/systemd/s']) {
      expect(cgroupMatcher(`/sys/fs/cgroup${path}`)(cgroups), path).toBe(path);
    }
    for (const path of ['/pids/c', '/p', '/cgroup/p']) expect(cgroupMatcher(`/sys/fs/cgroup${path}`)(cgroups), path).toBeNull();
    for (const path of ['/u', '/p', '/c', '/s']) expect(cgroupMatcher(path)(cgroups), path).toBe(path);
  });
});

test.each([
  ['db.service', '/system.slice/db.service', 'db.service'],
  ['db', '/system.slice/db.service/payload', 'db.service'],
  ['web@*', '/system.slice/system-web.slice/web@2.service', 'web@2.service'],
  ['app.slice', '/user.slice/app.slice/x.scope', 'app.slice'],
  ['my.app', '/system.slice/my.app.service', 'my.app.service'],
  ['db', '/system.slice/db.socket', null],
  ['db', '/system.slice/xdb.service', null],
])('systemd %s in %s is %s', (pattern, path, expected) => {
  expect(systemdMatcher(pattern)(v2(path))).toBe(expected);
});

describe('containerMatcher', () => {
  test.each([
    `/docker/${ID}`,
    `/system.slice/docker-${ID}.scope`,
    `/kubepods/besteffort/pod1/${ID}/nested`,
    `/kubepods.slice/x.slice/cri-containerd-${ID}.scope`,
    `/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:${ID}`,
    `/machine.slice/libpod-${ID}.scope`,
    `/docker/${'0'.repeat(64)}/docker/${ID}`,
  ])('finds an id in %s', (path) => {
    for (const id of [ID, ID.slice(0, 12)]) expect(containerMatcher(id)(v2(path)), id).toBe(ID);
    expect(containerMatcher(ID.slice(0, 11))(v2(path)), 'too short for an id').toBeNull();
    expect(containerMatcher(ID.slice(1))(v2(path)), 'not its beginning').toBeNull();
  });

  test('what only begins like an id is none', () => {
    for (const length of [12, 32, 63, 65]) {
      const path = `/x/${ID.padEnd(65, '0').slice(0, length)}`;
      expect(containerMatcher(ID.slice(0, 12))(v2(path)), `${length}`).toBeNull();
    }
  });

  test('a word is an id of containerd below its namespace, and nowhere else', () => {
    expect(containerMatcher('web')(v2('/default/web'))).toBe('web');
    expect(containerMatcher('web')(v2('/default/web/sub'))).toBe('web');
    for (const path of ['/web', '/a/b/web', '/default/webs']) expect(containerMatcher('web')(v2(path)), path).toBeNull();
  });
});
