/** An SQL answer as a table of which only the rows in view are in the document. */
import { useMemo, useState, type UIEvent } from 'react';
import { useElementSize } from '@mantine/hooks';
import type { Cell, SqlAnswer } from '../api/types';
import { cellText, columnWidths, isNumeric, visibleRows } from '../sql/cells';
import classes from './Sql.module.css';

const ROW_PX = 27;
const HEIGHT_UNKNOWN_PX = 600;

function ResultCell({ cell, numeric }: { cell: Cell; numeric: boolean }) {
  const text = cellText(cell);
  return (
    <td className={numeric ? classes['numeric'] : undefined} data-null={cell === null || undefined} title={text}>
      {text}
    </td>
  );
}

export function ResultTable({ answer }: { answer: SqlAnswer }) {
  const { columns, rows } = answer;
  const [scrollTop, setScrollTop] = useState(0);
  const { ref, height } = useElementSize<HTMLDivElement>();
  const widths = useMemo(() => columnWidths(columns, rows), [columns, rows]);
  const numeric = useMemo(() => columns.map(isNumeric), [columns]);
  const [first, last] = visibleRows(rows.length, scrollTop, height || HEIGHT_UNKNOWN_PX, ROW_PX);
  const scrolled = (event: UIEvent<HTMLDivElement>) => setScrollTop(event.currentTarget.scrollTop);
  const total = widths.reduce((sum, width) => sum + width, 0);

  return (
    <div ref={ref} className={classes['result']} onScroll={scrolled} tabIndex={0} role="region" aria-label="Result">
      <table style={{ width: total }} aria-rowcount={rows.length + 1} data-testid="result">
        <colgroup>
          {widths.map((width, at) => <col key={at} style={{ width }} />)}
        </colgroup>
        <thead>
          <tr>
            {columns.map((column, at) => (
              <th key={at} scope="col" className={numeric[at] ? classes['numeric'] : undefined}>
                {column.name}
                <small>{column.type}</small>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr aria-hidden="true" style={{ height: first * ROW_PX }} />}
          {rows.slice(first, last).map((row, at) => (
            <tr key={first + at} aria-rowindex={first + at + 2} style={{ height: ROW_PX }}>
              {columns.map((_, column) => (
                <ResultCell key={column} cell={row[column] ?? null} numeric={numeric[column] ?? false} />
              ))}
            </tr>
          ))}
          {last < rows.length && <tr aria-hidden="true" style={{ height: (rows.length - last) * ROW_PX }} />}
        </tbody>
      </table>
    </div>
  );
}
