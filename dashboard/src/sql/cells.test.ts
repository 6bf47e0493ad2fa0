import { expect, test } from 'vitest';
import { cellText, columnWidths, isNumeric, toCsv, visibleRows } from './cells';

test.each([
  ['Int64', true],
  ['UInt64', true],
  ['Float64', true],
  ['Decimal128(38, 10)', true],
  ['Utf8', false],
  ['Timestamp(µs, "UTC")', false],
  ['Map(Utf8, Utf8)', false],
  ['Interval(MonthDayNano)', false],
])('%s numeric: %s', (type, expected) => {
  expect(isNumeric({ name: 'x', type })).toBe(expected);
});

test('cells', () => {
  expect([null, true, 1.5, 'a', { host: 'b' }, [1, 2]].map(cellText)).toEqual([
    'NULL', 'true', '1.5', 'a', '{"host":"b"}', '[1,2]',
  ]);
});

test('CSV quotes what needs it and tells null from empty', () => {
  const columns = ['a', 'b,c'].map((name) => ({ name, type: 'Utf8' }));
  const csv = toCsv(columns, [['x "y"', null], ['', 'line\nbreak'], [{ k: 'v' }, 2]]);
  expect(csv).toBe('a,"b,c"\r\n"x ""y""",\r\n"","line\nbreak"\r\n"{""k"":""v""}",2\r\n');
});

test('widths stay within bounds', () => {
  const columns = [{ name: 'n', type: 'i' }, { name: 'long', type: 'Utf8' }];
  const [narrow, wide] = columnWidths(columns, [[1, 'x'.repeat(500)]]);
  expect(narrow).toBe(72);
  expect(wide).toBe(420);
});

test.each([
  [1000, 0, 280, [0, 22]],
  [1000, 2800, 280, [88, 122]],
  [1000, 28_000, 280, [988, 1000]],
  [0, 0, 280, [0, 0]],
])('of %d rows at %d with height %d: %j', (total, top, height, expected) => {
  expect(visibleRows(total, top, height, 28)).toEqual(expected);
});
