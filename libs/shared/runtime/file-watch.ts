// Whether a file has changed, by looking: works for files that are replaced, for links to them and on every file system, and costs
// one system call. A change counts when the file has stayed the same since the look before: it may be being written.

import { statSync } from 'node:fs';

export class FileWatch {
  readonly #path: string;
  #reported: string;
  #seen: string;

  constructor(path: string) {
    this.#path = path;
    this.#reported = this.#look();
    this.#seen = this.#reported;
  }

  /** True once for each change. A file that is gone has not changed: it may be being replaced. */
  hasChanged(): boolean {
    const now = this.#look();
    const isSettled = now === this.#seen;
    this.#seen = now;
    if (!isSettled || now === '' || now === this.#reported) return false;
    this.#reported = now;
    return true;
  }

  #look(): string {
    try {
      const { dev, ino, size, mtimeNs } = statSync(this.#path, { bigint: true });
      return `${dev}:${ino}:${size}:${mtimeNs}`;
    } catch {
      return '';
    }
  }
}
