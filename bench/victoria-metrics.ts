// VictoriaMetrics, single node, as Debian packages it: started on loopback with defaults (but for the time that it holds back
// the newest samples, which is 30 s), written to by the InfluxDB line protocol, asked over HTTP.

import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Batch } from '#shared/contract/batch';
import { METRIC_NAMES } from '#shared/contract/metrics';
import { freePort } from '#shared/runtime/free-port';
import { pause } from '#shared/runtime/wait';
import { eventually } from '../test/support/eventually.ts';
import { type Program, startProgram } from './processes.ts';
import { type Rivals, VICTORIA_METRICS } from './rivals.ts';

const READY_MS = 20_000;
const MERGE_POLL_MS = 250;
/** Merging is over when the size has not changed for this many looks. */
const STEADY_LOOKS = 4;
const LOOKS_MAX = 120;

export class VictoriaMetrics {
  readonly program: Program;
  private readonly directory: string;
  private readonly url: string;

  private constructor(program: Program, directory: string, url: string) {
    this.program = program;
    this.directory = directory;
    this.url = url;
  }

  /** @throws when it is absent, or is not ready in time */
  static async start(rivals: Rivals): Promise<VictoriaMetrics> {
    const path = rivals.programOf(VICTORIA_METRICS);
    if (path === null) throw new Error(`${VICTORIA_METRICS} is absent`);
    const directory = mkdtempSync(join(tmpdir(), 'victoria-metrics-'));
    const port = await freePort();
    const args = [
      `-storageDataPath=${directory}/data`,
      `-httpListenAddr=127.0.0.1:${port}`,
      '-retentionPeriod=1y',
      '-search.latencyOffset=0s',
    ];
    const program = startProgram(path, args, { cwd: directory });
    const rival = new VictoriaMetrics(program, directory, `http://127.0.0.1:${port}`);
    await eventually(() => rival.get('/health'), { withinMs: READY_MS, everyMs: 50 });
    return rival;
  }

  /** One request; resolves when it has been accepted, which is before it is on disk. */
  async write(lines: string): Promise<void> {
    const response = await fetch(`${this.url}/write?precision=ms`, { method: 'POST', body: lines });
    await response.arrayBuffer();
    if (!response.ok) throw new Error(`${VICTORIA_METRICS} refused a write: ${response.status}`);
  }

  /** Makes what was accepted visible to queries, and puts it on disk. */
  async flush(): Promise<void> {
    await this.get('/internal/force_flush');
  }

  /** Answer of an instant query. @returns one [timestamp s, value] for each series */
  async query(expression: string): Promise<readonly { value: readonly [number, string] }[]> {
    const reply = (await (await this.get(`/api/v1/query?nocache=1&query=${encodeURIComponent(expression)}`)).json()) as {
      data: { result: { value: [number, string] }[] };
    };
    return reply.data.result;
  }

  /** Bytes on disk after everything has been merged, the index included. */
  async mergedBytes(): Promise<number> {
    await this.flush();
    await this.get('/internal/force_merge');
    let bytes = -1;
    for (let look = 0, steady = 0; look < LOOKS_MAX && steady < STEADY_LOOKS; look++) {
      await pause(MERGE_POLL_MS);
      const now = sizeOf(join(this.directory, 'data'));
      steady = now === bytes ? steady + 1 : 0;
      bytes = now;
    }
    return bytes;
  }

  async end(): Promise<void> {
    await this.program.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private async get(path: string): Promise<Response> {
    const response = await fetch(`${this.url}${path}`);
    if (!response.ok) throw new Error(`${VICTORIA_METRICS} answered ${path} with ${response.status}`);
    return response;
  }
}

function sizeOf(directory: string): number {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + (statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

/** A line for each unit, a field for each metric that is known. */
export function influxLinesOf(batch: Batch): string {
  const lines = batch.unit.map((unit, i) => {
    const fields = METRIC_NAMES.flatMap((name) => {
      const value = batch[name]?.[i];
      return value === null || value === undefined ? [] : [`${name}=${value}`];
    });
    return fields.length === 0 ? '' : `unit,host=${batch.host},name=${unit} ${fields.join(',')} ${batch.ts}\n`;
  });
  return lines.join('');
}
