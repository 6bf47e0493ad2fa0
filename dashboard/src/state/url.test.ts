import { expect, test } from 'vitest';
import { toggleFilter } from './filters';
import { INITIAL, readState, writeState, type PageState } from './url';

const states: [string, Partial<PageState>][] = [
  ['the default', {}],
  ['the SQL tab', { tab: 'sql' }],
  ['a metric with odd letters', { metric: 'a/b c&d=é' }],
  ['a relative range', { range: { kind: 'relative', span: '7d' } }],
  ['fixed bounds', { range: { kind: 'custom', from: 1_714_521_600_000, to: 1_714_525_200_000 } }],
  ['a granularity and what is shown', { granularity: '5m', shown: 'max' }],
  ['filters, twice on one dimension', {
    filters: [
      { dimension: 'host', value: 'a' },
      { dimension: 'host', value: 'b:80' },
      { dimension: 'zone', value: '' },
    ],
  }],
  ['a group', { group: 'host' }],
];

test.each(states)('%s reads back as it was written', (_, part) => {
  const state = { ...INITIAL, ...part };
  expect(readState(writeState(state))).toEqual(state);
});

test.each([
  '?range=3w&granularity=2s&tab=admin&show=p99&filter=host&filter=:x&group=&metric=',
  '?from=yesterday&to=now',
  '?from=2024-05-02T00:00:00Z&to=2024-05-01T00:00:00Z',
])('%s falls back on the default', (search) => {
  expect(readState(search)).toEqual(INITIAL);
});

test('a filter toggles', () => {
  const a = { dimension: 'host', value: 'a' };
  const b = { dimension: 'host', value: 'b' };
  expect(toggleFilter([], a)).toEqual([a]);
  expect(toggleFilter([a], b)).toEqual([a, b]);
  expect(toggleFilter([a, b], { ...a })).toEqual([b]);
});
