/** How cells of an SQL answer are written: on the page, as CSV, and how wide their columns are. */
import type { Cell, Column } from '../api/types';

const NUMERIC = /^(u?int(?!erval)|float|double|decimal|real|bigint|smallint|i8|i16|i32|i64|u8|u16|u32|u64|f32|f64)/i;

export function isNumeric(column: Column): boolean {
  return NUMERIC.test(column.type);
}

/** The text of a cell; null is told apart by the caller. */
export function cellText(cell: Cell): string {
  if (cell === null) return 'NULL';
  return typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
}

function csvField(cell: Cell): string {
  if (cell === null) return '';
  const text = cellText(cell);
  return /[",\r\n]/.test(text) || text === '' ? `"${text.replaceAll('"', '""')}"` : text;
}

/** RFC 4180, with a header. A missing value is empty, an empty text is `""`. */
export function toCsv(columns: Column[], rows: Cell[][]): string {
  const lines = [columns.map((column) => csvField(column.name)), ...rows.map((row) => row.map(csvField))];
  return lines.map((line) => `${line.join(',')}\r\n`).join('');
}

const CHARACTER_PX = 7.6;
const PADDING_PX = 28;
const SAMPLE_ROWS = 100;

/** Column widths in px from the header and the first rows, so that scrolling does not make them jump. */
export function columnWidths(columns: Column[], rows: Cell[][]): number[] {
  return columns.map((column, at) => {
    let longest = Math.max(column.name.length, column.type.length * 0.85);
    for (const row of rows.slice(0, SAMPLE_ROWS)) longest = Math.max(longest, cellText(row[at] ?? null).length);
    return Math.round(Math.min(420, Math.max(72, longest * CHARACTER_PX + PADDING_PX)));
  });
}

/** The rows `[first, last)` that a scrolled viewport needs, with some before and after. */
export function visibleRows(total: number, scrollTop: number, height: number, rowHeight: number): [number, number] {
  const spare = 12;
  const first = Math.max(0, Math.floor(scrollTop / rowHeight) - spare);
  const last = Math.min(total, Math.ceil((scrollTop + height) / rowHeight) + spare);
  return [Math.min(first, last), last];
}
