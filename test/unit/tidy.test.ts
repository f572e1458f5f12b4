// The direction of imports and the names of files, kept by reading the sources: no import points outwards.

import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = ['libs', 'services', 'client', 'cli'].flatMap((folder) => filesIn(join(ROOT, folder)));
const TESTS = filesIn(join(ROOT, 'test'));
const NAMES_FORBIDDEN = ['index.ts', 'types.ts', 'utils.ts', 'helpers.ts', 'manager.ts', 'base.ts', 'common.ts', 'misc.ts'];

interface Import {
  /** Path of the importing file, from the root. */
  readonly from: string;
  /** Path of the file that is imported, from the root; or the name of a package, `node:` before a built-in one. */
  readonly to: string;
  /** Gone at run time. */
  readonly isType: boolean;
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const statements = /(?:^|\n)\s*(?:import|export)\s(?:[^'";]*?\sfrom\s)?'([^']+)'|import\('([^']+)'\)/g;
  return [...text.matchAll(statements)].map((match) => ({
    from: file,
    to: target(file, match[1] ?? match[2] ?? ''),
    isType: /^\s*(import|export) type\s/.test(match[0]),
  }));
}

function target(file: string, specifier: string): string {
  if (specifier.startsWith('#shared/')) return `libs/shared/${specifier.slice('#shared/'.length)}.ts`;
  if (specifier.startsWith('#client/')) return `client/${specifier.slice('#client/'.length)}.ts`;
  if (specifier.startsWith('.')) return join(dirname(file), specifier);
  return builtinModules.includes(specifier) ? `node:${specifier}` : specifier;
}

const imports = SOURCES.flatMap(importsOf);
const isLocal = (path: string): boolean => /^(libs|services|client|cli|test)\//.test(path);
const serviceOf = (path: string): string | undefined => /^services\/([^/]+)\//.exec(path)?.[1];

/** Imports of the files under `folder` that `isAllowed` refuses, as `file -> target`. */
function violations(folder: RegExp, isAllowed: (to: string, from: string, isType: boolean) => boolean): string[] {
  return imports
    .filter(({ from, to, isType }) => folder.test(from) && !isAllowed(to, from, isType))
    .map(({ from, to }) => `${from} -> ${to}`);
}

describe('imports', () => {
  test('are found at all', () => {
    expect(imports).toContainEqual({ from: 'libs/shared/nats/connection.ts', to: 'nats', isType: false });
    expect(imports).toContainEqual({ from: 'libs/shared/nats/connection.ts', to: 'libs/shared/runtime/config.ts', isType: true });
    expect(imports).toContainEqual({ from: 'cli/program.ts', to: 'cli/queries.ts', isType: false });
  });

  test('the contract is pure: zod, hashing and checksums', () => {
    const allowed = ['zod', 'node:crypto', 'node:zlib'];
    expect(violations(/^libs\/shared\/contract\//, (to) => to.startsWith('libs/shared/contract/') || allowed.includes(to))).toEqual([]);
  });

  test('only libs/shared/nats knows the NATS client', () => {
    expect(violations(/^(?!libs\/shared\/nats\/)/, (to) => to !== 'nats')).toEqual([]);
  });

  test('libs/shared/segments knows nothing but the disk', () => {
    expect(violations(/^libs\/shared\/segments\//, (to) => to.startsWith('libs/shared/segments/') || to.startsWith('node:'))).toEqual([]);
  });

  test('libs import only libs', () => {
    expect(violations(/^libs\//, (to) => !isLocal(to) || to.startsWith('libs/'))).toEqual([]);
  });

  test('the core of a service has no I/O, no clock, no RxJS and no NATS', () => {
    const isPure = (to: string, from: string, isType: boolean): boolean =>
      to.startsWith('libs/shared/contract/') ||
      to.startsWith(`services/${serviceOf(from)}/core/`) ||
      (isType && to.startsWith('libs/shared/')) ||
      ['node:crypto', 'node:zlib', 'node:assert'].includes(to);
    expect(violations(/^services\/[^/]+\/core\//, isPure)).toEqual([]);
  });

  test('services never import each other, nor what is built on them', () => {
    const isOwn = (to: string, from: string): boolean => !isLocal(to) || to.startsWith('libs/') || serviceOf(to) === serviceOf(from);
    expect(violations(/^services\//, (to, from) => isOwn(to, from) || (serviceOf(from) === 'gateway' && to.startsWith('client/')))).toEqual(
      [],
    );
  });

  test('the client imports only libs', () => {
    expect(violations(/^client\//, (to) => !isLocal(to) || to.startsWith('libs/') || to.startsWith('client/'))).toEqual([]);
  });

  test('no source imports a test', () => {
    expect(violations(/^/, (to) => !to.startsWith('test/'))).toEqual([]);
  });
});

describe('files', () => {
  test('are named for what they hold', () => {
    expect([...SOURCES, ...TESTS].filter((file) => NAMES_FORBIDDEN.includes(basename(file)))).toEqual([]);
  });

  test('have kebab-case names', () => {
    expect([...SOURCES, ...TESTS].filter((file) => !/^[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.ts$/.test(basename(file)))).toEqual([]);
  });

  test('open with a comment that says what they are', () => {
    expect(SOURCES.filter((file) => !/^(#!.*\n)?\/\/ /.test(readFileSync(join(ROOT, file), 'utf8')))).toEqual([]);
  });
});
