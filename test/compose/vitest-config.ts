import { configDefaults } from 'vitest/config';
import base from '../../vitest.config.ts';

// One stack, case after case: what follows a failure would only fail with it.
export default {
  ...base,
  test: {
    ...base.test,
    include: ['test/compose/*.test.ts'],
    exclude: configDefaults.exclude,
    bail: 1,
    testTimeout: 400_000,
    hookTimeout: 300_000,
  },
};
