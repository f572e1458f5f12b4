import { configDefaults, defineConfig } from 'vitest/config';

// Sources are tested directly (`#shared/*` resolves through the condition "source"); only the e2e tier runs dist/.
const conditions = ['source', 'module', 'node', 'development|production'];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: ['source', 'node'] } },
  test: {
    include: ['test/**/*.test.ts'],
    // They need a Docker engine: `npm run test:compose`.
    exclude: [...configDefaults.exclude, 'test/compose/**'],
    // One test compares what the window reports with what the process really holds.
    execArgv: ['--expose-gc'],
    // Longer than the waits inside a test: on a busy machine what fails is then a condition, which says what was not so.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Tests start real servers and processes on two cores: more files at once only make each other slow.
    maxWorkers: 2,
  },
});
