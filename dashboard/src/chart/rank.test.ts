import { expect, test } from 'vitest';
import { pickSeries, seriesName, summarise, total } from './rank';
import { seriesKey } from './series';

const series = (host: string, ...avgs: number[]) => ({
  key: seriesKey({ host }),
  dimensions: { host },
  points: avgs.map((avg, at) => ({ time: at, values: { avg, min: avg - 1, max: avg + 1, count: at + 1 } })),
});

test('the highest means are picked and ordered by name, numbers as numbers', () => {
  const all = [series('h10', 5), series('h9', 9), series('h1', 7), series('h2', 1)];
  expect(pickSeries(all, 'avg', 3)).toEqual(['h1', 'h9', 'h10'].map((host) => seriesKey({ host })));
});

test('series without points come last', () => {
  expect(pickSeries([series('empty'), series('low', -5)], 'avg', 1)).toEqual([seriesKey({ host: 'low' })]);
});

test('a summary weighs averages by count and looks only inside the window', () => {
  const { points } = series('a', 10, 20, 30);
  expect(summarise(points, 0, 1, 'avg')).toEqual({ last: 20, min: 9, max: 21, avg: 50 / 3, count: 3 });
  expect(summarise(points, 5, 9, 'avg')).toEqual({ last: null, min: null, max: null, avg: null, count: 0 });
});

test('a total weighs averages by count and leaves empty series out', () => {
  const of = (...avgs: number[]) => summarise(series('a', ...avgs).points, 0, 9, 'avg');
  expect(total([of(10, 20), of(), of(40)])).toEqual({ last: null, min: 9, max: 41, avg: 22.5, count: 4 });
  expect(total([])).toEqual({ last: null, min: null, max: null, avg: null, count: 0 });
});

test.each([
  [{}, 'all'],
  [{ host: 'web-1' }, 'web-1'],
  [{ host: 'web-1', zone: 'eu' }, 'web-1 · eu'],
  [{ host: '' }, '(none)'],
])('%j is called %s', (dimensions, expected) => {
  expect(seriesName(dimensions as Record<string, string>)).toBe(expected);
});
