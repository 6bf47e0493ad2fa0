/** The tables that SQL knows; a click writes a name into the editor. */
import type { Problem } from '../api/types';
import type { Tables } from './editor';
import { TableIcon } from './icons';
import classes from './Sql.module.css';

interface TableListProps {
  tables: Tables;
  problem: Problem | null;
  onInsert: (name: string) => void;
}

/** Words that need quotes to be read as columns. */
const QUOTED = new Set(['count', 'sum', 'min', 'max', 'avg']);

const columnText = (name: string) => (QUOTED.has(name) || !/^[a-z_][a-z0-9_]*$/.test(name) ? `"${name}"` : name);

export function TableList({ tables, problem, onInsert }: TableListProps) {
  return (
    <nav className={classes['tables']} aria-label="Tables">
      <h2>Tables</h2>
      {problem && <p className={classes['note']}>The list may be incomplete: {problem.detail}</p>}
      {Object.entries(tables).map(([table, columns]) => (
        <details key={table}>
          <summary>
            <TableIcon size={14} />
            <span>{table}</span>
            <button type="button" aria-label={`Insert ${table}`} onClick={() => onInsert(table)}>insert</button>
          </summary>
          <ul>
            {columns.map((column) => (
              <li key={column}>
                <button type="button" onClick={() => onInsert(columnText(column))}>{column}</button>
              </li>
            ))}
          </ul>
        </details>
      ))}
    </nav>
  );
}
