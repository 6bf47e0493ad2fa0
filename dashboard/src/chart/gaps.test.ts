import { expect, test } from 'vitest';
import { pauseMs, withBreaks } from './gaps';

const points = (...times: number[]) => times.map((time) => ({ time, values: { avg: time } }));
const avg = (point: { values: { avg?: number | null } }) => point.values.avg ?? null;

test('the pause follows the usual step, and is never below the bucket size', () => {
  expect(pauseMs(points(0, 300, 600, 900, 9000), 1)).toBe(1200);
  expect(pauseMs(points(0, 300, 600), 1000)).toBe(4000);
  expect(pauseMs(points(5), 1000)).toBe(4000);
  expect(pauseMs([], 1000)).toBe(4000);
});

test('a line breaks inside a pause only', () => {
  expect(withBreaks(points(0, 1000, 2000, 9000), 4000, avg)).toEqual([
    [0, 0],
    [1000, 1000],
    [2000, 2000],
    [3000, null],
    [9000, 9000],
  ]);
});
