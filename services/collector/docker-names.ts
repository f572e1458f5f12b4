// The names of Docker's containers, from the files in which Docker keeps them: no socket, whose users are as good as root, and
// no client. A directory for each container, called by its id; its name is in its `config.v2.json`.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A container can be renamed. */
const REREAD_MS = 30_000;

export class DockerNames {
  readonly #directory: string;
  /** Id to name; null while the file is not whole. */
  #names = new Map<string, string | null>();
  #readMs = Number.NEGATIVE_INFINITY;
  #problem: string | null = null;

  /** @param root of Docker's data */
  constructor(root = '/var/lib/docker') {
    this.#directory = join(root, 'containers');
  }

  /** Why names are not known; null when they are, or when there is no Docker here. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Looks again; what is known is not read again for a while. @param nowMs monotonic */
  refresh(nowMs: number): void {
    const isDue = nowMs - this.#readMs >= REREAD_MS;
    if (isDue) this.#readMs = nowMs;
    const names = new Map<string, string | null>();
    for (const id of this.#ids()) {
      const known = isDue ? null : (this.#names.get(id) ?? null);
      names.set(id, known ?? this.#nameOf(id));
    }
    this.#names = names;
  }

  /** Null: no container has this name. */
  idOf(name: string): string | null {
    for (const [id, known] of this.#names) if (known === name) return id;
    return null;
  }

  #ids(): string[] {
    this.#problem = null;
    try {
      return readdirSync(this.#directory);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'ENOENT') {
        this.#problem = `${this.#directory} cannot be read (${code}), so containers are known by their ids only`;
      }
      return [];
    }
  }

  #nameOf(id: string): string | null {
    try {
      const { Name: name } = JSON.parse(readFileSync(join(this.#directory, id, 'config.v2.json'), 'utf8')) as { Name?: unknown };
      return typeof name === 'string' ? name.replace(/^\//, '') : null;
    } catch {
      return null; // being written, or removed: it is asked for again
    }
  }
}
