import { expect, test } from 'vitest';
import { fieldsOf, renderName } from '#shared/contract/name-template';
import { nameProblem } from '#shared/contract/series';

const values: Readonly<Record<string, string>> = { comm: 'sh', user: 'app', 'match.1': '7', 'match.empty': '' };
const render = (template: string): string | null => renderName(template, (field) => values[field] ?? null);

test('fields are replaced by what is known of the process, and nothing else is', () => {
  expect(render('{user}/{comm}-{match.1}{match.empty}')).toBe('app/sh-7');
  expect(render('plain')).toBe('plain');
  expect(
    renderName('{comm}', () => '{user}'),
    'a name is not a template',
  ).toBe('{user}');
  expect(fieldsOf('{user}/{comm}-{match.1}')).toEqual(['user', 'comm', 'match.1']);
});

test('without one of its values there is no name', () => {
  expect(render('{comm}-{match.2}')).toBeNull();
  expect(render('{match.empty}')).toBeNull();
});

test('whatever a process calls itself becomes a valid name, and two of them never the same', () => {
  const hostile = ['x'.repeat(300), `${'x'.repeat(300)}y`, '/'.repeat(100), 'ä'.repeat(200), '\ud800', 'a\0b', '\u{1F600}'.repeat(90)];
  const names = hostile.map((text) => renderName('{comm}', () => text) ?? '');
  for (const [i, name] of names.entries()) expect(nameProblem(name), hostile[i]?.slice(0, 5)).toBeNull();
  expect(new Set(names).size).toBe(hostile.length);
  expect(names[0]).toMatch(/^x{200,}~[0-9a-f]{8}$/);
});
