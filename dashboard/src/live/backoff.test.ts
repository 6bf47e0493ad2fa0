import { expect, test } from 'vitest';
import { backoffMs } from './backoff';

test.each([
  [0, 0, 250],
  [0, 1, 750],
  [1, 0.5, 1000],
  [3, 0.5, 4000],
  [5, 0.5, 15_000],
  [1000, 1, 22_500],
])('attempt %i with random %d pauses %i ms', (attempt, random, expected) => {
  expect(backoffMs(attempt, () => random)).toBe(expected);
});
