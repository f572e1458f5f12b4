// Names of units out of what is known of a process: `{comm}`, `{user}`, `{match.1}`, for rules that give many units.
// A name that would be too long for a subject is cut and ends in a digest of the whole, so that two names never become one.

import { createHash } from 'node:crypto';
import { nameProblem } from './series.ts';

/** What is left of all processes when the first have been published one by one. */
export const OTHER_UNIT = '__other__';

/** What a rule knows of each process, besides the groups of its expression. */
export const NAME_FIELDS = ['comm', 'user', 'cgroup', 'pid', 'parent', 'service', 'project'] as const;
/** A field, or `match.1`, `match.2`, … for a group of the expression, by number or name. */
export type NameField = (typeof NAME_FIELDS)[number] | `match.${string}`;

const PLACEHOLDER = /\{([^{}]*)\}/g;
const DIGEST_CHARACTERS = 8;

/** The fields in a template, in order. */
export function fieldsOf(template: string): string[] {
  return [...template.matchAll(PLACEHOLDER)].map((found) => found[1] as string);
}

/**
 * Puts values into a template.
 * @param lookUp null where the process has no such value; it then has no name
 * @returns a name that is valid as that of a unit, or null
 */
export function renderName(template: string, lookUp: (field: NameField) => string | null): string | null {
  let isKnown = true;
  const name = template.replace(PLACEHOLDER, (_whole, field: NameField) => {
    const value = lookUp(field);
    if (value === null) isKnown = false;
    return value ?? '';
  });
  return isKnown && name !== '' ? validName(name) : null;
}

/** The text itself where it can be the name of a unit, else as much of it as can, and a digest. @param text not empty */
export function validName(text: string): string {
  const name = text.toWellFormed().replaceAll('\0', '\uFFFD');
  if (nameProblem(name) === null) return name;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, DIGEST_CHARACTERS);
  const characters = [...name];
  let kept = characters.length;
  while (nameProblem(cut(characters, kept, digest)) !== null) kept = Math.min(kept - 1, 255);
  return cut(characters, kept, digest);
}

function cut(characters: readonly string[], kept: number, digest: string): string {
  return `${characters.slice(0, kept).join('')}~${digest}`;
}
