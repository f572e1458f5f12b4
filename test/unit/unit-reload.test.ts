import { pino } from 'pino';
import { expect, test } from 'vitest';
import { type Config, ConfigError, loadConfig } from '#shared/runtime/config';
import { UnitReload } from '../../services/collector/unit-reload.ts';

const config = (env: Record<string, string>): Config => loadConfig({ env, cwd: '/nonexistent' });

function opened() {
  const lines: { level: number; msg: string; keys?: string[] }[] = [];
  const logger = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) });
  let next: Config | ConfigError = config({});
  const reload = new UnitReload(
    config({}),
    () => {
      if (next instanceof ConfigError) throw next;
      return next;
    },
    logger,
  );
  const load = (one: Config | ConfigError): void => {
    next = one;
    reload.load();
  };
  return { reload, lines, load };
}

test('what is read is taken once', () => {
  const { reload, load } = opened();
  expect(reload.take()).toBeNull();
  const next = config({ SPILLWAY_UNITS_MAX: '5' });
  load(next);
  expect(reload.take()).toBe(next);
  expect(reload.take()).toBeNull();
});

test('a wrong one takes the place of a right one that was not taken yet, and is a problem until the next right one', () => {
  const { reload, load, lines } = opened();
  load(config({ SPILLWAY_UNITS_MAX: '5' }));
  load(new ConfigError(['units.a: is wrong']));
  expect(reload.take()).toBeNull();
  expect(reload.problem).toMatch(/^the changed configuration is not used.*units\.a: is wrong/s);
  expect(lines).toMatchObject([{ level: 50, msg: expect.stringMatching(/not used/) }]);
  const right = config({ SPILLWAY_UNITS_MAX: '6' });
  load(right);
  reload.took(reload.take() as Config);
  expect(reload.problem).toBeNull();
  expect(reload.config).toBe(right);
});

test('what needs a start is named, units are not', () => {
  const { reload, lines } = opened();
  reload.took(config({ SPILLWAY_UNITS_MAX: '7' }));
  expect(lines.filter(({ level }) => level > 30)).toEqual([]);
  reload.took(config({ SPILLWAY_UNITS_MAX: '7', SPILLWAY_RETENTION_MINUTES: '3', SPILLWAY_LOG_LEVEL: 'warn' }));
  expect(lines.filter(({ level }) => level > 30)).toMatchObject([{ keys: ['metrics', 'log_level'] }]);
});
