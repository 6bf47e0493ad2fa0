import { expect, test } from 'vitest';
import { dataOption, pointsInWindow, type Drawing } from './option';
import { paletteOf } from './palette';
import { seriesKey } from './series';

const palette = paletteOf('light');
const series = (host: string, times: number[]) => ({
  key: seriesKey({ host }),
  dimensions: { host },
  points: times.map((time) => ({ time, values: { avg: 5, min: -3, max: 8, count: 2 } })),
});
const drawing = (part: Partial<Drawing>): Drawing => ({
  series: [], shown: 'avg', granularityMs: 1000, lower: 1000, upper: 5000, highlighted: null, ...part,
});
const ids = (part: Partial<Drawing>) => dataOption(drawing(part), palette).series.map(({ id }) => id);

test('one series has a band of minimum and height, also below zero', () => {
  const option = dataOption(drawing({ series: [series('a', [1000, 2000])] }), palette);
  expect(option.series.map(({ id }) => id)).toEqual(['band-low', 'band-height', `line-${seriesKey({ host: 'a' })}`, 'heads']);
  expect(option.series[0]?.data).toEqual([[1000, -3], [2000, -3]]);
  expect(option.series[1]?.data).toEqual([[1000, 11], [2000, 11]]);
});

test('several series, or another figure than the average, have none', () => {
  expect(ids({ series: [series('a', [1000]), series('b', [1000])] })).toHaveLength(3);
  expect(ids({ series: [series('a', [1000])], shown: 'max' })).toHaveLength(2);
  expect(ids({})).toEqual(['heads']);
});

test('a line keeps one point on each side of the window', () => {
  const { points } = series('a', [0, 500, 1000, 4000, 5000, 6000]);
  expect(pointsInWindow(points, 1000, 5000).map(({ time }) => time)).toEqual([500, 1000, 4000, 5000]);
});

test('the axis spans the window', () => {
  expect(dataOption(drawing({}), palette).xAxis).toEqual({ min: 1000, max: 5000 });
});
