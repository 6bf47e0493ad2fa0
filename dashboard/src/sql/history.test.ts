import { expect, test } from 'vitest';
import { HISTORY_MAX, remember } from './history';

test('the newest comes first, once', () => {
  expect(remember(['b', 'a'], ' a ')).toEqual(['a', 'b']);
  expect(remember(['a'], '  ')).toEqual(['a']);
});

test('it is bounded', () => {
  const full = Array.from({ length: HISTORY_MAX }, (_, at) => `q${at}`);
  expect(remember(full, 'new')).toHaveLength(HISTORY_MAX);
  expect(remember(full, 'new')[0]).toBe('new');
});
