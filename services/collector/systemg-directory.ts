// The state directory of systemg: its own two files, and those of every project below `projects/`. They are read at every
// tick, because systemg rewrites them at every change, and a reading that fails leaves the last good one in force.

import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  NO_PROJECT,
  type PidFile,
  parsePidFile,
  parseStateFile,
  runningServices,
  type StateFile,
  type SystemgService,
} from './core/systemg-state.ts';

/** Where systemg keeps its state: of this user, and of the system. */
export const SYSTEMG_DIRECTORIES: readonly string[] = [join(homedir(), '.local/share/systemg'), '/var/lib/systemg'];

/** Some hundred bytes a service. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;

export class SystemgDirectory {
  readonly path: string;
  readonly #projects = new Map<string, ProjectFiles>();

  constructor(path: string) {
    this.path = path;
  }

  /** The services that run, or why that is not known. */
  read(): { services: SystemgService[] } | { reason: string } {
    const found = new Set(['', ...projectsIn(this.path)]);
    for (const id of this.#projects.keys()) if (!found.has(id)) this.#projects.delete(id);
    const services: SystemgService[] = [];
    let isRead = false;
    for (const id of found) {
      const files = this.#projects.get(id) ?? new ProjectFiles(id === '' ? this.path : join(this.path, 'projects', id));
      this.#projects.set(id, files);
      files.read();
      isRead ||= files.isRead;
      services.push(...runningServices(files.pids.content, files.states.content, NO_PROJECT.has(id) ? null : id));
    }
    if (isRead) return { services };
    const problem = [...this.#projects.values()].map((files) => files.problem).find((one) => one !== null);
    return { reason: problem ?? `${this.path} has neither pid.xml nor state.xml` };
  }
}

class ProjectFiles {
  readonly pids: KeptFile<PidFile>;
  readonly states: KeptFile<StateFile>;

  constructor(directory: string) {
    this.pids = new KeptFile(join(directory, 'pid.xml'), parsePidFile);
    this.states = new KeptFile(join(directory, 'state.xml'), parseStateFile);
  }

  get isRead(): boolean {
    return this.pids.content !== null || this.states.content !== null;
  }

  get problem(): string | null {
    return this.pids.problem ?? this.states.problem;
  }

  read(): void {
    this.pids.read();
    this.states.read();
  }
}

/** A file and what it said when it was last whole. One that is gone says nothing. */
class KeptFile<Content> {
  content: Content | null = null;
  problem: string | null = null;
  readonly #path: string;
  readonly #parse: (text: string) => Content | null;
  #text: string | null = null;

  constructor(path: string, parse: (text: string) => Content | null) {
    this.#path = path;
    this.#parse = parse;
  }

  read(): void {
    this.problem = null;
    let text: string;
    try {
      text = readSmallFile(this.#path);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT' || code === 'ENOTDIR') this.#forget();
      else this.problem = `${this.#path} cannot be read: ${code ?? (error as Error).message}`;
      return;
    }
    if (text === this.#text) return;
    const content = this.#parse(text);
    if (content === null) {
      this.problem = `${this.#path} is not a whole document`;
      return;
    }
    this.#text = text;
    this.content = content;
  }

  #forget(): void {
    this.#text = null;
    this.content = null;
  }
}

function projectsIn(directory: string): string[] {
  try {
    return readdirSync(join(directory, 'projects')).sort();
  } catch {
    return [];
  }
}

function readSmallFile(path: string): string {
  // O_NONBLOCK: a pipe in the place of the file must not stop the collector.
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { size } = fstatSync(descriptor);
    if (size > FILE_BYTES_MAX) throw new Error(`${size} bytes, more than ${FILE_BYTES_MAX}`);
    const buffer = Buffer.alloc(size);
    return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, size, 0));
  } finally {
    closeSync(descriptor);
  }
}
