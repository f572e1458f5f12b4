// A bar on the terminal: what runs, how much of it is done. Nothing where nobody looks.

const BAR_WIDTH = 30;

export function showProgress(label: string, done: number, total: number): void {
  if (!process.stderr.isTTY) return;
  const filled = Math.round((total === 0 ? 1 : done / total) * BAR_WIDTH);
  process.stderr.write(`\r\x1b[K[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}] ${done}/${total} ${label}`);
}

export function clearProgress(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
}
