// Times as people type and read them.

import { UsageFailure } from './failure.ts';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const TIME_MS_MAX = 8.64e15;

/**
 * Milliseconds since 1970, ISO 8601, `now`, or relative to now: `-10m`, `-1.5h`.
 * @throws {UsageFailure} when it is none of these
 */
export function parseTime(text: string, nowMs: number): number {
  const timeMs = readTime(text.trim(), nowMs);
  if (timeMs === null || Math.abs(timeMs) > TIME_MS_MAX) {
    throw new UsageFailure(
      `${JSON.stringify(text)} is not a time; write milliseconds, ISO 8601, now, or a distance from now such as -10m, -2h, -1d`,
    );
  }
  return Math.round(timeMs);
}

function readTime(text: string, nowMs: number): number | null {
  if (text === 'now') return nowMs;
  if (/^\d+$/.test(text)) return Number(text);
  const relative = /^([+-])(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(text);
  if (relative !== null) {
    const distanceMs = Number(relative[2]) * (UNIT_MS[relative[3] ?? ''] ?? 0);
    return relative[1] === '-' ? nowMs - distanceMs : nowMs + distanceMs;
  }
  // Date.parse alone takes almost anything: "1" is a year, "May" a month.
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return null;
  const parsed = Date.parse(text);
  return Number.isNaN(parsed) ? null : parsed;
}

/** Local time, to the millisecond: `2026-11-20 22:40:00.123`; `-` for null. */
export function formatTime(timeMs: number | null): string {
  if (timeMs === null) return '-';
  const date = new Date(timeMs);
  const two = (value: number): string => `${value}`.padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time}.${`${date.getMilliseconds()}`.padStart(3, '0')}`;
}
