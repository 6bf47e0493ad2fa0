/** Runs one SQL statement at a time, whole or from memory alone, and keeps what was asked. */
import { useCallback, useEffect, useRef, useState } from 'react';
import { runSql, toProblem } from '../api/client';
import type { Problem, SqlAnswer } from '../api/types';
import { loadHistory, remember, saveHistory } from '../sql/history';

export interface SqlRun {
  answer: SqlAnswer | null;
  problem: Problem | null;
  isRunning: boolean;
  history: string[];
  run: (sql: string) => void;
  /** Asks the last statement again, for what memory has of its answer. */
  runFromMemory: () => void;
  cancel: () => void;
}

export function useSql(): SqlRun {
  const [answer, setAnswer] = useState<SqlAnswer | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isRunning, setRunning] = useState(false);
  const [history, setHistory] = useState(loadHistory);
  const abort = useRef<AbortController | null>(null);
  const last = useRef('');

  const cancel = useCallback(() => {
    abort.current?.abort();
    setRunning(false);
  }, []);

  const ask = useCallback((sql: string, partial: boolean) => {
    abort.current?.abort();
    const current = new AbortController();
    abort.current = current;
    setRunning(true);
    runSql(sql, partial, current.signal)
      .then((result) => {
        if (current.signal.aborted) return;
        setAnswer(result);
        setProblem(null);
      })
      .catch((error: unknown) => {
        if (!current.signal.aborted) setProblem(toProblem(error));
      })
      .finally(() => {
        if (!current.signal.aborted) setRunning(false);
      });
  }, []);

  const run = useCallback((sql: string) => {
    if (sql.trim() === '') return;
    last.current = sql;
    setHistory((earlier) => {
      const next = remember(earlier, sql);
      saveHistory(next);
      return next;
    });
    ask(sql, false);
  }, [ask]);

  const runFromMemory = useCallback(() => ask(last.current, true), [ask]);

  useEffect(() => () => abort.current?.abort(), []);
  return { answer, problem, isRunning, history, run, runFromMemory, cancel };
}
