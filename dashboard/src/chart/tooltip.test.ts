import { expect, test } from 'vitest';
import { seriesKey } from './series';
import { escapeHtml, nearestPoint, tooltipHtml } from './tooltip';

const points = [0, 1000, 5000].map((time) => ({ time, values: { avg: time, min: 0, max: 9000, count: 2 } }));

test.each([
  [-100, 0],
  [400, 0],
  [600, 1000],
  [2000, 1000],
  [4500, 5000],
  [7000, undefined],
])('the point nearest to %d is at %s', (time, expected) => {
  expect(nearestPoint(points, time, 1500)?.time).toBe(expected);
});

test('names are escaped', () => {
  expect(escapeHtml(`<img src="x" onerror='1'>&`)).not.toMatch(/[<>"']/);
  const series = { key: seriesKey({ host: '<b>' }), dimensions: { host: '<b>' }, points };
  expect(tooltipHtml([{ series, colour: '#000' }], 0, 10, 'avg')).toContain('&#60;b&#62;');
});

test('only lines with a point in the bucket are listed, highest first', () => {
  const series = (host: string, times: number[]) => ({
    colour: '#000',
    series: {
      key: host,
      dimensions: { host },
      points: times.map((time) => ({ time, values: { avg: host.charCodeAt(0), count: 1 } })),
    },
  });
  const html = tooltipHtml([series('a', [0]), series('b', [0]), series('c', [800])], 10, 1000, 'avg');
  expect([...html.matchAll(/<\/i>(\w)/g)].map((match) => match[1])).toEqual(['b', 'a']);
});

test('far from every point there is nothing to say', () => {
  expect(tooltipHtml([], 0, 10, 'avg')).toBe('');
});
