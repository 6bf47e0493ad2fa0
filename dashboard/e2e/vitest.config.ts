import { defineConfig } from 'vitest/config';

/** The browser test runs against a program that is already up, one step after another. */
export default defineConfig({
  test: {
    include: ['e2e/**/*.test.ts'],
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
