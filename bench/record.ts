// `npm run bench -- --record SECONDS`: our own collector watches every process of this machine, and what it published becomes the
// recorded trace. Each process that is there at the start is a unit by itself, and all processes of one program are a unit together, so
// that starts and ends are in it. Names are replaced by numbers: nothing of this machine's names is kept.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Batch } from '#shared/contract/batch';
import { parseBatch } from '#shared/contract/batch-reader';
import { LogReader } from '#shared/nats/log-reader';
import { createLogger } from '#shared/runtime/logging';
import { pause } from '#shared/runtime/wait';
import { Installation } from './installation.ts';

const PULL_WAIT_MS = 1_000;

/** @returns how many batches of how many units there are now at `path` */
export async function record(root: string, path: string, seconds: number): Promise<{ batches: number; units: number }> {
  const units = unitsOfThisMachine();
  const installation = await Installation.start(root, { SPILLWAY_LIVE_SUBJECTS: 'false' });
  try {
    const collector = installation.startService('collector', units);
    await pause(seconds * 1_000);
    await collector.terminate();
    const batches = await readBatches(installation);
    const lines = batches.map((batch) =>
      JSON.stringify({ ...batch, host: 'recorded', boot: 'recorded', unit: batch.unit.map((_, i) => `unit-${i}`) }),
    );
    writeFileSync(path, gzipSync(`${lines.join('\n')}\n`, { level: 9 }));
    return { batches: batches.length, units: Object.keys(units).length };
  } finally {
    await installation.end();
  }
}

function unitsOfThisMachine(): Record<string, object> {
  const units: Record<string, object> = {};
  const programs = new Set<string>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const program = programOf(name);
    if (program === '') continue; // a kernel thread, or gone
    units[`process-${name}`] = { pid: Number(name), tree: false };
    programs.add(program);
  }
  for (const program of programs) units[`program-${Object.keys(units).length}`] = { match: `^\\S*${escaped(program)}( |$)`, tree: false };
  return units;
}

function programOf(pid: string): string {
  try {
    return basename(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split(/[\0 ]/)[0] ?? '');
  } catch {
    return '';
  }
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

async function readBatches({ link }: Installation): Promise<Batch[]> {
  const stream = link.subjects.samplesStream(0);
  const logger = createLogger('bench', 'silent');
  const reader = new LogReader({ link, stream, from: 1, messagesMax: 512, bytesMax: 8 * 1024 * 1024, logger });
  const batches: Batch[] = [];
  for (;;) {
    const messages = await reader.pull(PULL_WAIT_MS);
    if (messages.length === 0) break;
    for (const message of messages) {
      const parsed = parseBatch(message.data, link.subjects.hostOfSamples(message.subject));
      if (parsed.ok) batches.push(parsed.value);
    }
  }
  await reader.close();
  return batches;
}
