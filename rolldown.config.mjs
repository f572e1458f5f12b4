// Bundles the program: `dist/cli/main.js` and what it loads from `dist/cli/parts`, without any package beside them. docs/adr/0015
// says why. What tsc writes beside it, module by module, is for the harnesses.

import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Node gets these as CommonJS, of which nothing can be left out; this is the same library in modules. */
const RXJS = fileURLToPath(new URL('node_modules/rxjs/dist/esm/index.js', import.meta.url));

export default {
  input: 'cli/main.ts',
  platform: 'node',
  resolve: { conditionNames: ['source', 'import', 'node', 'default'], alias: { rxjs: RXJS } },
  output: {
    dir: 'dist/cli',
    format: 'esm',
    entryFileNames: 'main.js',
    chunkFileNames: ({ name, facadeModuleId }) => `parts/${nameOf(name, facadeModuleId)}.js`,
    codeSplitting: { groups: [{ name: 'libraries', test: /node_modules/ }] },
    sourcemap: true,
  },
};

/** A service's `main.ts` is named after the service. */
function nameOf(name, module) {
  return name === 'main' && module ? basename(dirname(module)) : name;
}
