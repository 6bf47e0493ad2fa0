import { describe, expect, test } from 'vitest';
import { AUTO_POINTS_MAX_NARROW, durationMs, isTooFine, resolveGranularity, windowOf } from './granularity';

test.each([
  ['1s', 1_000],
  ['15m', 900_000],
  ['7d', 604_800_000],
  ['', Number.NaN],
  ['5', Number.NaN],
  ['5y', Number.NaN],
])('%s is %d ms', (text, expected) => {
  expect(durationMs(text)).toBe(expected);
});

describe('auto', () => {
  test.each([
    ['15m', '2s', '5s'],
    ['1h', '10s', '30s'],
    ['6h', '1m', '2m'],
    ['24h', '5m', '10m'],
    ['7d', '30m', '1h'],
    ['30d', '2h', '6h'],
    ['4000d', '1d', '1d'],
  ])('over %s is %s, and %s where there is little room', (span, wide, narrow) => {
    expect(resolveGranularity('auto', durationMs(span))).toBe(wide);
    expect(resolveGranularity('auto', durationMs(span), AUTO_POINTS_MAX_NARROW)).toBe(narrow);
  });
});

test('a chosen size is kept unless it is too fine', () => {
  expect(resolveGranularity('1s', durationMs('1h'))).toBe('1s');
  expect(resolveGranularity('1d', durationMs('15m'))).toBe('1d');
  expect(isTooFine('1s', durationMs('24h'))).toBe(true);
  expect(resolveGranularity('1s', durationMs('24h'))).toBe('5m');
});

test('windows', () => {
  expect(windowOf({ kind: 'relative', span: '15m' }, 1_000_000)).toEqual([100_000, 1_000_000]);
  expect(windowOf({ kind: 'custom', from: 1, to: 2 }, 1_000_000)).toEqual([1, 2]);
});
