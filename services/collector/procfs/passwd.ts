// Users by name, from /etc/passwd: no shell, no name service. A name that is all digits is a number.

import { readFileSync } from 'node:fs';

export interface Users {
  /** Null: there is no such user. */
  uidOf(user: string): number | null;
  /** The number itself where it has no name. */
  nameOf(uid: number): string;
}

/** @param path of the file; a host without one knows users by number only */
export function readUsers(path = '/etc/passwd'): Users {
  const uids = new Map<string, number>();
  const names = new Map<number, string>();
  for (const line of linesOf(path)) {
    const [name, , uid] = line.split(':');
    if (name === undefined || uid === undefined || !/^\d+$/.test(uid)) continue;
    if (!uids.has(name)) uids.set(name, Number(uid));
    if (!names.has(Number(uid))) names.set(Number(uid), name);
  }
  return {
    uidOf: (user) => uids.get(user) ?? (/^\d{1,10}$/.test(user) ? Number(user) : null),
    nameOf: (uid) => names.get(uid) ?? String(uid),
  };
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch {
    return [];
  }
}
