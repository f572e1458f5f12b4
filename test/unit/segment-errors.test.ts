// Which failures of opening a directory are for somebody to mend, and which may pass.

import { expect, test } from 'vitest';
import { DirectoryRefusedError, DiskFullError, typedOpenError } from '#shared/segments/segment-errors';

const failure = (code: string, syscall: string): Error => Object.assign(new Error(`${code}: ${syscall}`), { code, syscall });

test.each(['EACCES', 'EROFS', 'ENOTDIR', 'ENOENT'])('%s of mkdir is refused: the path has to change', (code) => {
  const error = typedOpenError('/spill/0', failure(code, 'mkdir'));
  expect(error).toBeInstanceOf(DirectoryRefusedError);
  expect((error as Error).message).toContain('/spill/0');
});

test('a file that is gone while the directory is read may be there the next time', () => {
  expect(typedOpenError('/spill/0', failure('ENOENT', 'open'))).toBeInstanceOf(DiskFullError);
});
