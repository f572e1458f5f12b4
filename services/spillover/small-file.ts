// Small files beside the segments, read and rewritten as a whole. What lies there under their names may be anybody's.

import { constants, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Disk, isMissing, syncDirectory, writeWhole } from '#shared/segments/disk';

/** Far more than they need. */
const FILE_BYTES_MAX = 1024 * 1024;

/** Contents of a file; '' of anything else: a FIFO would be waited for, something huge would fill the memory. */
export async function readSmallFile(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = await file.stat();
    return stat.isFile() && stat.size <= FILE_BYTES_MAX ? await file.readFile('utf8') : '';
  } finally {
    await file.close();
  }
}

/** Resolves when the new contents are durable; until then, and after a crash, the file has the old or the new ones. */
export async function replaceFile(disk: Disk, path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  await disk.unlink(temporary).catch((error: unknown) => {
    if (!isMissing(error)) throw error;
  });
  const file = await disk.open(temporary, 'wx');
  try {
    await writeWhole(file, [Buffer.from(text)], 0);
    await file.datasync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, path);
  await syncDirectory(disk, dirname(path));
}
