// Logging: pino, one JSON object a line on standard output. A constant sentence, data as fields with units in their names.

import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** @param service name of the service, in every line */
export function createLogger(service: string, level: string): Logger {
  // Synchronous: a crash must not take its own last words with it.
  return pino(
    { level, base: { service }, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    pino.destination({ fd: 1, sync: true }),
  );
}

/**
 * Logs a repeated condition the first time it occurs and then once per interval, with the number of times in between:
 * never a line per lost message.
 */
export function createThrottledLog(intervalMs: number, now: () => number): (key: string, log: (times: number) => void) => void {
  const conditions = new Map<string, { loggedMs: number; times: number }>();
  return (key, log) => {
    const nowMs = now();
    const condition = conditions.get(key);
    if (condition === undefined) {
      conditions.set(key, { loggedMs: nowMs, times: 0 });
      log(1);
      return;
    }
    condition.times++;
    if (nowMs - condition.loggedMs < intervalMs) return;
    log(condition.times);
    condition.loggedMs = nowMs;
    condition.times = 0;
  };
}
