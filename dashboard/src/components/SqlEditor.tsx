/** Keeps one SQL editor open while the component is shown. */
import { useEffect, useRef, type RefObject } from 'react';
import { openEditor, type SqlEditorHandle, type Tables } from './editor';
import classes from './Sql.module.css';

interface SqlEditorProps {
  handle: RefObject<SqlEditorHandle | null>;
  initialText: string;
  tables: Tables;
  onRun: () => void;
  onChange: (text: string) => void;
}

export function SqlEditor({ handle, initialText, tables, onRun, onChange }: SqlEditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const latest = useRef({ initialText, tables, onRun, onChange });
  latest.current = { initialText, tables, onRun, onChange };

  useEffect(() => {
    if (!host.current) return undefined;
    const opened = openEditor(host.current, {
      text: latest.current.initialText,
      tables: latest.current.tables,
      onRun: () => latest.current.onRun(),
      onChange: (text) => latest.current.onChange(text),
    });
    handle.current = opened;
    return () => {
      opened.close();
      handle.current = null;
    };
  }, [handle]);

  useEffect(() => handle.current?.setTables(tables), [handle, tables]);
  return <div ref={host} className={classes['editor']} data-testid="sql-editor" />;
}
