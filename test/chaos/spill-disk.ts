// The disk of the spill. Where a tmpfs can be mounted it can be made full in an instant: its size is set to what is used.
// Elsewhere it is a directory, and that fault is left out with the reason.

import { execFileSync } from 'node:child_process';
import { mkdirSync, statfsSync } from 'node:fs';

const ROOM_LEFT_BYTES = 16 * 1024;

export class SpillDisk {
  readonly path: string;
  /** Why it cannot be made full; null when it can. */
  readonly reason: string | null;
  private readonly bytes: number;

  private constructor(path: string, bytes: number, reason: string | null) {
    this.path = path;
    this.bytes = bytes;
    this.reason = reason;
  }

  static open(path: string, bytes: number): SpillDisk {
    mkdirSync(path, { recursive: true });
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=700`, 'spillway-chaos', path], { stdio: 'pipe' });
      return new SpillDisk(path, bytes, null);
    } catch (error) {
      return new SpillDisk(path, bytes, `a tmpfs cannot be mounted here: ${firstLine(error)}`);
    }
  }

  /** @returns false when it was written to at that very moment, or cannot be made full */
  fill(): boolean {
    if (this.reason !== null) return false;
    const { bsize, blocks, bfree } = statfsSync(this.path);
    return this.resize((blocks - bfree) * bsize + ROOM_LEFT_BYTES);
  }

  empty(): void {
    if (this.reason === null) this.resize(this.bytes);
  }

  close(): void {
    if (this.reason === null) execFileSync('umount', ['-l', this.path], { stdio: 'pipe' });
  }

  private resize(bytes: number): boolean {
    try {
      execFileSync('mount', ['-o', `remount,size=${bytes}`, this.path], { stdio: 'pipe' });
      return true;
    } catch {
      return false;
    }
  }
}

function firstLine(error: unknown): string {
  const said = (error as { stderr?: Buffer }).stderr?.toString('utf8').trim().split('\n')[0];
  return said || (error instanceof Error ? error.message : String(error));
}
