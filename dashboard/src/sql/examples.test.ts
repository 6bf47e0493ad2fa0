import { expect, test } from 'vitest';
import { examplesFor, literal, tablesOf } from './examples';

test('a literal doubles its quotes', () => {
  expect(literal("o'clock")).toBe("'o''clock'");
  expect(examplesFor("a'b").some(({ sql }) => sql.includes("name = 'a''b'"))).toBe(true);
});

test('tables are the rollups and the streams, each with its time column', () => {
  const flights = {
    name: 'flights', id: 3, time_column: 'scheduled_at', columns: [{ name: 'carrier', type: 'text' }],
    order_by: ['scheduled_at'], retention: '365d', built_in: false,
  };
  const tables = tablesOf([flights]);
  expect(Object.keys(tables)).toEqual(['metrics', 'metrics_1s', 'metrics_1m', 'metrics_1h', 'metrics_1d', 'flights']);
  expect(tables['flights']).toEqual(['scheduled_at', 'carrier']);
});
