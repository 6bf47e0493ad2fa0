/** Arranges the tables, the SQL editor and its answer. */
import { useMemo, useRef } from 'react';
import type { SqlEditorHandle } from '../components/editor';
import { ResultPanel } from '../components/ResultPanel';
import classes from '../components/Sql.module.css';
import { SqlBar } from '../components/SqlBar';
import { SqlEditor } from '../components/SqlEditor';
import { TableList } from '../components/TableList';
import { useStreams } from '../hooks/useServer';
import { useSql } from '../hooks/useSql';
import { examplesFor, tablesOf } from '../sql/examples';

/** What stood in the editor when the tab was left. */
let draft: string | null = null;

export function SqlPage({ metric }: { metric: string | null }) {
  const editor = useRef<SqlEditorHandle>(null);
  const streams = useStreams();
  const { answer, problem, isRunning, history, run, runFromMemory, cancel } = useSql();
  const examples = useMemo(() => examplesFor(metric ?? 'temperature'), [metric]);
  const known = JSON.stringify(tablesOf(streams.data?.streams ?? []));
  const tables = useMemo(() => JSON.parse(known) as Record<string, string[]>, [known]);
  const runText = () => run(editor.current?.text() ?? '');
  const pick = (sql: string) => {
    editor.current?.setText(sql);
    run(sql);
  };

  return (
    <div className={classes['page']}>
      <TableList tables={tables} problem={streams.problem} onInsert={(name) => editor.current?.insert(name)} />
      <div className={classes['content']}>
        <section className={classes['panel']} aria-label="Statement">
          <SqlEditor
            handle={editor} initialText={draft ?? history[0] ?? examples[0]?.sql ?? ''} tables={tables} onRun={runText}
            onChange={(text) => { draft = text; }}
          />
          <SqlBar
            isRunning={isRunning} examples={examples} history={history} onRun={runText} onCancel={cancel} onPick={pick}
          />
        </section>
        <ResultPanel answer={answer} problem={problem} isRunning={isRunning} runFromMemory={runFromMemory} />
      </div>
    </div>
  );
}
