import { expect, test } from 'vitest';
import type { WirePoint } from '../api/types';
import { SeriesSet, lowerBound, seriesKey } from './series';

const at = (second: number) => new Date(second * 1000).toISOString();
const point = (second: number, avg: number, count = 1): WirePoint => [at(second), avg, count];
const batch = (epoch: number, points: WirePoint[], dimensions = {}) => ({
  epoch,
  aggregations: ['avg' as const, 'count' as const],
  series: [{ dimensions, points }],
});
const shown = (set: SeriesSet) =>
  set.all().map((series) => series.points.map((p) => [p.time / 1000, p.values.avg, p.values.count]));

test('a change appends, replaces and inserts by time', () => {
  const set = new SeriesSet();
  set.replace(batch(1, [point(1, 10), point(3, 30)]));
  set.apply(batch(2, [point(4, 40), point(3, 31, 2), point(2, 20), point(0, 0)]));
  expect(shown(set)).toEqual([[[0, 0, 1], [1, 10, 1], [2, 20, 1], [3, 31, 2], [4, 40, 1]]]);
  expect(set.epoch).toBe(2);
});

test('a snapshot replaces everything', () => {
  const set = new SeriesSet();
  set.replace(batch(1, [point(1, 10)], { host: 'a' }));
  const shape = set.shape;
  set.replace(batch(5, [point(2, 20)], { host: 'b' }));
  expect(set.all().map((series) => series.dimensions)).toEqual([{ host: 'b' }]);
  expect(set.shape).toBeGreaterThan(shape);
});

test('a new series changes the shape, a new point does not', () => {
  const set = new SeriesSet();
  set.replace(batch(1, [point(1, 10)], { host: 'a' }));
  const shape = set.shape;
  set.apply(batch(2, [point(2, 10)], { host: 'a' }));
  expect(set.shape).toBe(shape);
  set.apply(batch(3, [point(2, 10)], { host: 'b' }));
  expect(set.shape).toBe(shape + 1);
  expect(set.size).toBe(2);
});

test('trimming forgets old buckets and empty series', () => {
  const set = new SeriesSet();
  set.replace(batch(1, [point(1, 1), point(2, 2), point(3, 3)], { host: 'a' }));
  set.apply(batch(2, [point(1, 1)], { host: 'b' }));
  set.trimBefore(2000);
  expect(shown(set)).toEqual([[[2, 2, 1], [3, 3, 1]]]);
});

test('keys do not depend on the order of dimensions', () => {
  expect(seriesKey({ a: '1', b: '2' })).toBe(seriesKey({ b: '2', a: '1' }));
  expect(seriesKey({ a: '1' })).not.toBe(seriesKey({ a: '2' }));
});

test('a missing value is null', () => {
  const set = new SeriesSet();
  set.replace({ epoch: 1, aggregations: ['avg', 'max'], series: [{ dimensions: {}, points: [[at(1), 5]] }] });
  expect(set.all()[0]?.points[0]?.values).toEqual({ avg: 5, max: null });
});

test.each([
  [0, 0],
  [1000, 0],
  [1500, 1],
  [2000, 1],
  [2001, 2],
])('lower bound of %d is %d', (time, expected) => {
  const points = [1000, 2000].map((t) => ({ time: t, values: {} }));
  expect(lowerBound(points, time)).toBe(expected);
});
