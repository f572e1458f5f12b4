// How a harness starts a service of the built program: as `spillway up` does.

import { join } from 'node:path';
import { SERVICE_NODE_FLAGS } from '#shared/runtime/node-flags';

/** Arguments for Node. @param root where the built program lies: `<root>/dist/cli/main.js` */
export function serviceArgs(root: string, name: string): string[] {
  return [...SERVICE_NODE_FLAGS, join(root, 'dist', 'cli', 'main.js'), name];
}
