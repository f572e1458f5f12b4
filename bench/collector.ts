// collector: what a tick a second costs, as CPU and resident memory of the whole process, with 100 to 5 000 processes that sleep or
// that work a little. Spillway's includes encoding, publishing and the live subjects. Rivals read the same fields (CPU, memory, IO, threads) of
// every process of the machine; they publish nothing: pidstat and process-exporter write text, atop its own file.
// The cost is divided by the processes that a contender reads: for some that is every process of the machine, kernel threads too.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '#shared/runtime/free-port';
import { pause } from '#shared/runtime/wait';
import { eventually } from '../test/support/eventually.ts';
import { residentBytes } from '../test/support/resident-memory.ts';
import { type Bench, type BenchContext, sizesOf } from './bench.ts';
import { Installation } from './installation.ts';
import { type Measured, measuredBy, SPILLWAY } from './measurements.ts';
import { type Mood, startPopulation } from './population.ts';
import { cpuMs, startProgram } from './processes.ts';
import { ATOP, PIDSTAT, PIDUSAGE, PROCESS_EXPORTER } from './rivals.ts';

const SIZES = [100, 1_000, 5_000];
const SIZES_QUICK = [100];
const MOODS: readonly Mood[] = ['idle', 'busy'];
const TICKS = 10;
const TICKS_QUICK = 3;
/** First readings open files. */
const WARM_UP_TICKS = 3;
/** Of what Node runs: it goes on compiling for some fifteen ticks, and a collector runs for months. */
const WARM_UP_TICKS_OF_NODE = 20;
const TICK_MS = 1_000;
const READY_MS = 60_000;

interface Scene {
  readonly context: BenchContext;
  readonly pids: readonly number[];
  readonly directory: string;
}

interface Contender {
  readonly name: string;
  readonly readsAll: boolean;
  /** What it costs; null when the contender is absent. */
  run(scene: Scene): Promise<Cost | null>;
}

interface Cost {
  readonly ms: number;
  /** When it has been measured. */
  readonly residentBytes: number;
  /** The part of it for reading and for encoding the batch, where a contender tells. */
  readonly readingMs?: number;
}

const CONTENDERS: readonly Contender[] = [
  { name: SPILLWAY, readsAll: false, run: spillway },
  { name: PIDSTAT, readsAll: true, run: (scene) => program(scene, PIDSTAT, ['-h', '-u', '-r', '-d', '-p', 'ALL', '1']) },
  { name: ATOP, readsAll: true, run: (scene) => program(scene, ATOP, ['-w', join(scene.directory, 'atop.raw'), '1']) },
  { name: PROCESS_EXPORTER, readsAll: true, run: processExporter },
  { name: PIDUSAGE, readsAll: false, run: pidusageAlone },
];

export const collectorBench: Bench = {
  name: 'collector',
  rivals: [PIDSTAT, ATOP, PROCESS_EXPORTER],
  rounds: 3,
  tasks: (context) =>
    sizesOf(context, SIZES, SIZES_QUICK).flatMap((processes) =>
      MOODS.map((mood) => ({ label: `${processes} ${mood} processes`, run: () => round(context, processes, mood) })),
    ),
};

async function round(context: BenchContext, processes: number, mood: Mood): Promise<Measured[]> {
  const directory = mkdtempSync(join(tmpdir(), 'collector-'));
  const measured: Measured[] = [];
  const population = await startPopulation(processes, mood);
  try {
    for (const { name, readsAll, run } of CONTENDERS) {
      const cost = await run({ context, pids: population.pids, directory });
      if (cost === null) continue;
      const { ms, readingMs } = cost;
      const one = measuredBy(`${processes} ${mood} processes`, name);
      const read = readsAll ? processesOfMachine() : processes;
      measured.push(
        one('cpu_per_tick', 'ms', ms),
        one('cpu_per_tick_and_process', 'us', (ms * 1_000) / read),
        one('resident_memory', 'MiB', cost.residentBytes / 2 ** 20),
      );
      if (readingMs !== undefined) measured.push(one('reading_and_encoding_per_process', 'us', (readingMs * 1_000) / read));
    }
    return measured;
  } finally {
    await population.end();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function spillway({ context, pids }: Scene): Promise<Cost> {
  const installation = await Installation.start(context.root);
  try {
    const units = Object.fromEntries(pids.map((pid) => [`process-${pid}`, { pid, tree: false }]));
    const { pid } = installation.startService('collector', units);
    await eventually(() => installation.client.collectorInfo('bench'), { withinMs: READY_MS });
    const look = async () => {
      const { ticks = 0, tick_cpu_us_total: readingUs = 0 } = (await installation.client.collectorInfo('bench')).counters;
      return { ticks, readingMs: readingUs / 1_000, ms: cpuMs(pid) };
    };
    await pause(warmUpTicks(context) * TICK_MS);
    const before = await look();
    await pause(ticks(context) * TICK_MS);
    const after = await look();
    const taken = after.ticks - before.ticks;
    if (taken === 0) throw new Error('the collector took no tick');
    return {
      ms: (after.ms - before.ms) / taken,
      residentBytes: residentBytes(pid),
      readingMs: (after.readingMs - before.readingMs) / taken,
    };
  } finally {
    await installation.end();
  }
}

/** A program that takes a tick a second by itself. */
async function program({ context, directory }: Scene, name: string, args: readonly string[]): Promise<Cost | null> {
  const path = context.rivals.programOf(name);
  if (path === null) return null;
  // atop would switch the kernel's process accounting on.
  const running = startProgram(path, args, { cwd: directory, env: { ...process.env, ATOPACCT: '' } });
  try {
    return await cpuOfTicks(context, running.pid);
  } finally {
    await running.terminate();
  }
}

/** Takes a tick when it is asked. Memory maps are left out: Spillway does not read them. */
async function processExporter({ context, directory }: Scene): Promise<Cost | null> {
  const path = context.rivals.programOf(PROCESS_EXPORTER);
  if (path === null) return null;
  const configuration = join(directory, 'process-exporter.yaml');
  writeFileSync(configuration, 'process_names:\n  - name: "{{.PID}}"\n    cmdline: [".+"]\n');
  const address = `127.0.0.1:${await freePort()}`;
  const args = ['-config.path', configuration, '-web.listen-address', address, '-gather-smaps=false', '-threads=false', '-children=false'];
  const running = startProgram(path, args, { cwd: directory });
  const scrape = async (): Promise<void> => {
    const response = await fetch(`http://${address}/metrics`);
    await response.arrayBuffer();
  };
  try {
    await eventually(scrape, { withinMs: READY_MS, everyMs: 100 });
    await scrape();
    const before = cpuMs(running.pid);
    for (let tick = 0; tick < ticks(context); tick++) {
      await scrape();
      await pause(TICK_MS);
    }
    return { ms: (cpuMs(running.pid) - before) / ticks(context), residentBytes: residentBytes(running.pid) };
  } finally {
    await running.terminate();
  }
}

async function pidusageAlone({ context, pids, directory }: Scene): Promise<Cost> {
  const file = join(directory, 'pids.json');
  const logFile = join(directory, 'pidusage.log');
  writeFileSync(file, JSON.stringify(pids));
  const running = startProgram(process.execPath, [join(import.meta.dirname, 'pidusage-process.js'), file], { cwd: directory, logFile });
  // With thousands of processes a tick may take more than its second.
  const taken = (): number => readFileSync(logFile, 'utf8').split('\n').length - 1;
  try {
    await pause(warmUpTicks(context) * TICK_MS);
    const before = { ticks: taken(), ms: cpuMs(running.pid) };
    await pause(ticks(context) * TICK_MS);
    const ticksTaken = taken() - before.ticks;
    if (ticksTaken === 0) throw new Error(`pidusage finished no tick in ${ticks(context)} s`);
    return { ms: (cpuMs(running.pid) - before.ms) / ticksTaken, residentBytes: residentBytes(running.pid) };
  } finally {
    await running.terminate();
  }
}

async function cpuOfTicks(context: BenchContext, pid: number): Promise<Cost> {
  await pause(WARM_UP_TICKS * TICK_MS);
  const before = cpuMs(pid);
  await pause(ticks(context) * TICK_MS);
  return { ms: (cpuMs(pid) - before) / ticks(context), residentBytes: residentBytes(pid) };
}

function processesOfMachine(): number {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length;
}

function ticks({ isQuick }: BenchContext): number {
  return isQuick ? TICKS_QUICK : TICKS;
}

function warmUpTicks({ isQuick }: BenchContext): number {
  return isQuick ? WARM_UP_TICKS : WARM_UP_TICKS_OF_NODE;
}
