/** What came of the last statement: rows and their figures, an error, or an invitation. */
import { CopyButton } from './CopyButton';
import { EmptyFace, ErrorFace, LoadingFace, PartialNote } from './faces';
import { ResultTable } from './ResultTable';
import classes from './Sql.module.css';
import { isWithoutHistory } from '../api/client';
import type { SqlAnswer } from '../api/types';
import { formatCount } from '../chart/format';
import type { SqlRun } from '../hooks/useSql';
import { toCsv } from '../sql/cells';

function ResultBar({ answer, isStale }: { answer: SqlAnswer; isStale: boolean }) {
  return (
    <div className={classes['resultBar']}>
      <span data-testid="row-count"><b>{formatCount(answer.row_count)}</b> {answer.row_count === 1 ? 'row' : 'rows'}</span>
      <span><b data-testid="elapsed">{answer.elapsed_ms.toFixed(answer.elapsed_ms < 10 ? 1 : 0)}</b> ms</span>
      <span className={classes['epoch']} title="The answer holds every event up to this epoch and none after">
        epoch <b data-testid="epoch">{answer.epoch}</b>
      </span>
      {answer.truncated && <span className={classes['cut']}>cut off at the limit of rows</span>}
      {isStale && <span className={classes['cut']}>of an earlier statement</span>}
      <span className={classes['spread']} />
      <CopyButton label="Copy as CSV" text={() => toCsv(answer.columns, answer.rows)} />
    </div>
  );
}

type ResultPanelProps = Pick<SqlRun, 'answer' | 'problem' | 'isRunning' | 'runFromMemory'>;

export function ResultPanel({ answer, problem, isRunning, runFromMemory }: ResultPanelProps) {
  const isOld = isRunning || problem !== null;
  return (
    <section className={classes['panel']} aria-label="Answer" aria-busy={isRunning} data-old={isOld || undefined}>
      {problem && (
        <ErrorFace
          problem={problem} retryLabel="Answer from memory alone"
          onRetry={isWithoutHistory(problem) && !isRunning ? runFromMemory : undefined}
        />
      )}
      {answer?.partial && (
        <PartialNote partial={answer.partial}>History is missing; this is what memory has</PartialNote>
      )}
      {answer && <ResultBar answer={answer} isStale={isOld} />}
      {answer && answer.rows.length > 0 && <ResultTable key={answer.epoch} answer={answer} />}
      {answer && answer.rows.length === 0 && <EmptyFace title="No rows">The statement ran and gave none.</EmptyFace>}
      {!answer && isRunning && <LoadingFace label="Running" />}
      {!answer && !isRunning && !problem && (
        <EmptyFace title="Ask something">
          Live events and history are one table here. Start from an example, or press Ctrl Enter to run what stands above.
        </EmptyFace>
      )}
    </section>
  );
}
