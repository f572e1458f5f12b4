// What a service said last before it ended, read from the end of its log.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const TAIL_BYTES = 16 * 1024;

/** The newest error in a log of JSON lines, or the last line of another; null when there is neither. */
export function lastErrorIn(logFile: string): string | null {
  const lines = lastLines(logFile);
  for (const line of lines.reverse()) {
    const entry = parseEntry(line);
    if (entry === null) return line;
    if (entry.level === 'error' || entry.level === 'fatal') return entry.msg ?? null;
  }
  return null;
}

function lastLines(logFile: string): string[] {
  try {
    const file = openSync(logFile, 'r');
    try {
      const size = fstatSync(file).size;
      const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
      readSync(file, tail, 0, tail.length, size - tail.length);
      return tail
        .toString('utf8')
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '');
    } finally {
      closeSync(file);
    }
  } catch {
    return [];
  }
}

function parseEntry(line: string): { level?: string; msg?: string } | null {
  try {
    return JSON.parse(line) as { level?: string; msg?: string };
  } catch {
    return null;
  }
}
