// Where a command writes: data to standard output, messages and progress to standard error.

import type { Sample } from '#shared/contract/row';

export function print(text: string): void {
  process.stdout.write(text);
}

export function printJson(value: unknown): void {
  print(`${JSON.stringify(value)}\n`);
}

const SAMPLES_PER_WRITE = 1_000;

/** `{"samples":[…],…rest}` in pieces, because the whole could be longer than the longest string. */
export function printSamplesJson(samples: readonly Sample[], rest: object): void {
  print('{"samples":[');
  for (let i = 0; i < samples.length; i += SAMPLES_PER_WRITE) {
    const piece = samples.slice(i, i + SAMPLES_PER_WRITE).map((sample) => JSON.stringify(sample));
    print(`${i === 0 ? '' : ','}${piece.join(',')}`);
  }
  print(`],${JSON.stringify(rest).slice(1)}\n`);
}

export function say(sentence: string): void {
  process.stderr.write(`${sentence}\n`);
}

const PROGRESS_INTERVAL_MS = 100;
const BAR_WIDTH = 30;

export interface Progress {
  /** @param done so far; @param total all of it, or null when it is not known */
  show(done: number, total: number | null): void;
  /** Wipes the line. */
  end(): void;
}

/** A line on standard error that renews itself; nothing at all where that is not a terminal. */
export function startProgress(label: string): Progress {
  if (!process.stderr.isTTY) return { show: () => undefined, end: () => undefined };
  let shownMs = 0;
  return {
    show: (done, total) => {
      const nowMs = Date.now();
      if (nowMs - shownMs < PROGRESS_INTERVAL_MS) return;
      shownMs = nowMs;
      process.stderr.write(`\r\x1b[K${label} ${total === null ? `${done}` : bar(done, total)}`);
    },
    end: () => {
      if (shownMs > 0) process.stderr.write('\r\x1b[K');
    },
  };
}

function bar(done: number, total: number): string {
  const part = total === 0 ? 1 : Math.min(1, done / total);
  const filled = Math.round(part * BAR_WIDTH);
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}] ${Math.floor(part * 100)} %`;
}
