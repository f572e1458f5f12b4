// `spillway check`: validates the configuration and prints every value in force and where it comes from.

import { type Config, ConfigError } from '#shared/runtime/config';
import { print, printJson, say } from './output.ts';
import { fromHere, type GlobalOptions, serviceConfig } from './session.ts';
import { formatTable, left } from './table.ts';

export interface Setting {
  /** Dotted. */
  readonly key: string;
  readonly value: unknown;
  /** The file's path, the variable's name, or `default`. */
  readonly from: string;
}

/** @throws {ConfigError} with every problem, after printing them for programs with --json */
export function check(options: GlobalOptions): void {
  let config: Config;
  try {
    config = serviceConfig(options);
  } catch (error) {
    if (options.json && error instanceof ConfigError) printJson({ ok: false, problems: error.problems });
    throw error;
  }
  const settings = settingsOf(config);
  if (options.json) {
    printJson({ ok: true, file: config.file, settings, problems: [] });
    return;
  }
  print(
    formatTable(
      [left('KEY'), left('VALUE'), left('FROM')],
      settings.map(({ key, value, from }) => [key, textOf(value), fromHere(from)]),
    ),
  );
  say(config.file === null ? 'No spillway.yaml here: defaults and variables. No problems.' : `${fromHere(config.file)}: no problems.`);
}

const SECRETS: ReadonlySet<string> = new Set(['nats.password']);

/** One for every key, in the order of the schema; secrets are masked. */
export function settingsOf(config: Config): Setting[] {
  const { file: _file, given, ...values } = config;
  const settings: Setting[] = [];
  const visit = (key: string, value: unknown): void => {
    if (isGroup(value)) {
      for (const [name, member] of Object.entries(value)) visit(key === '' ? name : `${key}.${name}`, member);
    } else {
      settings.push({ key, value: SECRETS.has(key) && value !== null ? '***' : value, from: given.get(key) ?? 'default' });
    }
  };
  visit('', values);
  return settings;
}

function isGroup(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0;
}

function textOf(value: unknown): string {
  if (value === null) return '-';
  return Array.isArray(value) ? value.join(', ') : typeof value === 'object' ? '-' : String(value);
}
