import { expect, test } from 'vitest';
import { formatCount, formatNumber, formatSpan, formatTime, toLocalField } from './format';

test.each([
  [0, '0'],
  [30, '30'],
  [1.5, '1.5'],
  [-0.12345, '-0.1235'],
  [0.00001234, '1.23e-5'],
  [999.96, '1000'],
  [1234.5, '1235'],
  [9999, '9999'],
  [12345, '12.35k'],
  [100_000, '100k'],
  [2_500_000, '2.5M'],
  [3e9, '3G'],
  [-4.2e12, '-4.2T'],
  [1e18, '1.00e+18'],
  [null, '–'],
  [undefined, '–'],
  [Number.NaN, '–'],
])('number %s reads %s', (value, expected) => {
  expect(formatNumber(value)).toBe(expected);
});

test.each([
  [85.4, '85 ms'],
  [4230, '4.2 s'],
  [42_000, '42 s'],
  [720_000, '12 min'],
  [10_800_000, '3 h'],
  [172_800_000, '2 d'],
])('span %d reads %s', (ms, expected) => {
  expect(formatSpan(ms)).toBe(expected);
});

test('counts have separators', () => {
  expect(formatCount(1234567)).toBe('1,234,567');
  expect(formatCount(null)).toBe('–');
});

test('a local field reads back to the same second', () => {
  const now = 1_714_561_445_000;
  expect(new Date(toLocalField(now)).getTime()).toBe(now);
  expect(formatTime(now)).toBe(toLocalField(now).replace('T', ' '));
});
