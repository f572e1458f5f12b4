import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parsePidFile, parseStateFile, runningServices } from '../../services/collector/core/systemg-state.ts';
import { SystemgDirectory } from '../../services/collector/systemg-directory.ts';

// As systemg 0.66 writes them, with the elements that are not ours.
const PIDS = `<PidFile>
  <services>
    <name>api</name>
    <pid>812</pid>
  </services>
  <services>
    <name>db &amp; cache</name>
    <pid>813</pid>
  </services>
  <service_groups>
    <name>api</name>
    <pgid>812</pgid>
  </service_groups>
  <service_starts>
    <name>api</name>
    <started>4711</started>
  </service_starts>
  <parent_map>
    <child>900</child>
    <parent>812</parent>
  </parent_map>
  <spawn_metadata>
    <pid>900</pid>
    <metadata>
      <pid>900</pid>
      <name>child</name>
      <command>sh -c &lt;services&gt;</command>
    </metadata>
  </spawn_metadata>
  <generations>
    <service>old</service>
    <pid>700</pid>
    <start>12</start>
  </generations>
</PidFile>
`;
const entry = (key: string, status: string, pid: number | null = null): string =>
  `<services><name>${key}</name><state><status>${status}</status>${pid === null ? '' : `<pid>${pid}</pid>`}</state></services>`;
const states = (...entries: string[]): string => `<ServiceStateFile>${entries.join('')}</ServiceStateFile>`;
const oneLine = (text: string): string => text.replace(/\n\s*/g, '');

describe('pid.xml', () => {
  const expected = new Map([
    ['api', { pid: 812, startTicks: 4711 }],
    ['db & cache', { pid: 813, startTicks: null }],
  ]);

  test.each([
    ['indented', PIDS],
    ['one line', oneLine(PIDS)],
    ['with a declaration', `<?xml version="1.0" encoding="UTF-8"?>\n${PIDS}`],
    ['with the line breaks of another system', PIDS.replaceAll('\n', '\r\n')],
  ])('%s: services with their processes, and nothing else of it', (_name, text) => {
    expect(parsePidFile(text)).toEqual(expected);
  });

  test('without services', () => {
    for (const text of ['<PidFile/>', '<PidFile></PidFile>\n', '<PidFile />'] as const) expect(parsePidFile(text)).toEqual(new Map());
  });

  test('torn anywhere it is no reading: what has been written so far may look like fewer services', () => {
    for (const text of [PIDS, oneLine(PIDS)]) {
      for (let length = 0; length < text.trimEnd().length; length++) expect(parsePidFile(text.slice(0, length)), `${length}`).toBeNull();
    }
  });

  test('what is no process id is no process', () => {
    for (const pid of ['0', '-1', '4194305', '1.5', 'x', '']) {
      expect(parsePidFile(`<PidFile><services><name>a</name><pid>${pid}</pid></services></PidFile>`), pid).toEqual(new Map());
    }
  });

  test('names are unescaped, once', () => {
    const names = ['&lt;a&gt;', '&quot;&apos;', '&#65;&#x42;', '&amp;lt;', '&unknown;', '&#1114112;'];
    const text = `<PidFile>${names.map((name, i) => `<services><name>${name}</name><pid>${i + 1}</pid></services>`).join('')}</PidFile>`;
    expect([...(parsePidFile(text)?.keys() ?? [])]).toEqual(['<a>', `"'`, 'AB', '&lt;', '&unknown;', '&#1114112;']);
  });
});

describe('runningServices', () => {
  const running = (pids: string | null, state: string | null, project: string | null = null) =>
    runningServices(pids === null ? null : parsePidFile(pids), state === null ? null : parseStateFile(state), project);
  const PID = '<PidFile><services><name>api</name><pid>812</pid></services></PidFile>';

  test('keys of both kinds lead to the service: by name, or by the process', () => {
    for (const key of ['v2:shop:api', 'v2:none:api', 'v13:shop:api', '0123456789abcdef']) {
      expect(running(PID, states(entry(key, 'running', 812)))).toEqual([
        { service: 'api', project: null, pid: 812, startTicks: null, isHearsay: false },
      ]);
    }
  });

  test.each(['skipped', 'exited_successfully', 'exited_with_error', 'stopped'])('%s is not running', (status) => {
    for (const version of [2, 13]) expect(running(PID, states(entry(`v${version}:shop:api`, status)))).toEqual([]);
    expect(running(PID, states(entry('0123456789abcdef', status, 812)))).toEqual([]);
    expect(running(null, states(entry('v2:shop:api', status, 812)))).toEqual([]);
  });

  test('either file is enough', () => {
    expect(running(PID, null)).toMatchObject([{ service: 'api', pid: 812, isHearsay: false }]);
    expect(
      running(null, states(entry('v2:shop:api', 'running', 812), entry('fedcba9876543210', 'running', 9), entry('v2:x:y', 'running'))),
    ).toEqual([
      { service: 'api', project: 'shop', pid: 812, startTicks: null, isHearsay: true },
      { service: 'fedcba9876543210', project: null, pid: 9, startTicks: null, isHearsay: true },
    ]);
  });

  test('the process is the one of pid.xml while the other file is behind, and counts once', () => {
    expect(running(PID, states(entry('v2:shop:api', 'running', 700)))).toMatchObject([{ service: 'api', pid: 812 }]);
  });

  test('the directory names the project, and a service may have colons', () => {
    expect(running(PID, states(entry('v2:b:x:y', 'running', 5)), 'shop')).toMatchObject([
      { service: 'api', project: 'shop' },
      { service: 'x:y', project: 'shop' },
    ]);
  });
});

describe('SystemgDirectory', () => {
  const root = mkdtempSync(join(tmpdir(), 'spillway-systemg-'));
  afterAll(() => rmSync(root, { recursive: true }));
  let made = 0;
  const open = () => {
    const path = join(root, String(made++));
    mkdirSync(path);
    const directory = new SystemgDirectory(path);
    const names = () => {
      const reading = directory.read();
      return 'services' in reading
        ? reading.services.map(({ service, project, pid }) => `${project ?? '-'}/${service}=${pid}`)
        : reading.reason;
    };
    return { path, names };
  };
  const pids = (...services: [string, number][]): string =>
    `<PidFile>${services.map(([name, pid]) => `<services><name>${name}</name><pid>${pid}</pid></services>`).join('')}</PidFile>`;

  test('a torn or empty file keeps the last good reading, a whole one replaces it', () => {
    const { path, names } = open();
    const file = join(path, 'pid.xml');
    writeFileSync(file, '');
    expect(names()).toBe(`${file} is not a whole document`);
    writeFileSync(file, pids(['api', 1], ['db', 2]));
    expect(names()).toEqual(['-/api=1', '-/db=2']);
    for (const torn of ['', pids(['api', 9]).slice(0, -1), '<PidFile>', '\0\0\0']) {
      writeFileSync(file, torn);
      expect(names(), torn).toEqual(['-/api=1', '-/db=2']);
    }
    writeFileSync(file, pids(['api', 9]));
    expect(names()).toEqual(['-/api=9']);
    writeFileSync(file, '<PidFile/>');
    expect(names()).toEqual([]);
  });

  test('so does each of the two files by itself', () => {
    const { path, names } = open();
    writeFileSync(join(path, 'pid.xml'), pids(['api', 1]));
    writeFileSync(join(path, 'state.xml'), states(entry('v2:p:api', 'skipped')));
    expect(names()).toEqual([]);
    writeFileSync(join(path, 'state.xml'), '<ServiceStateFile><serv');
    expect(names()).toEqual([]);
    writeFileSync(join(path, 'state.xml'), states(entry('v2:p:api', 'running', 1)));
    expect(names()).toEqual(['-/api=1']);
  });

  test('projects are read below it, those that come and those that go', () => {
    const { path, names } = open();
    const project = (id: string): string => join(path, 'projects', id);
    writeFileSync(join(path, 'pid.xml'), pids(['api', 1]));
    for (const id of ['shop', '__loose__']) mkdirSync(project(id), { recursive: true });
    writeFileSync(join(project('shop'), 'pid.xml'), pids(['api', 2]));
    writeFileSync(join(project('__loose__'), 'pid.xml'), pids(['tunnel', 3]));
    expect(names()).toEqual(['-/api=1', '-/tunnel=3', 'shop/api=2']);
    rmSync(project('shop'), { recursive: true });
    rmSync(join(path, 'pid.xml'));
    expect(names()).toEqual(['-/tunnel=3']);
  });

  test('says what is wrong where nothing can be read', () => {
    const { path, names } = open();
    expect(names()).toBe(`${path} has neither pid.xml nor state.xml`);
    mkdirSync(join(path, 'pid.xml'));
    expect(names()).toBe(`${join(path, 'pid.xml')} cannot be read: EISDIR`);
    expect(new SystemgDirectory(join(path, 'none')).read()).toEqual({ reason: `${join(path, 'none')} has neither pid.xml nor state.xml` });
  });
});
