/** Runs one SQL statement at a time and keeps what was asked. */
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
  cancel: () => void;
}

export function useSql(): SqlRun {
  const [answer, setAnswer] = useState<SqlAnswer | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isRunning, setRunning] = useState(false);
  const [history, setHistory] = useState(loadHistory);
  const abort = useRef<AbortController | null>(null);

  const cancel = useCallback(() => {
    abort.current?.abort();
    setRunning(false);
  }, []);

  const run = useCallback((sql: string) => {
    if (sql.trim() === '') return;
    abort.current?.abort();
    const current = new AbortController();
    abort.current = current;
    setRunning(true);
    setHistory((last) => {
      const next = remember(last, sql);
      saveHistory(next);
      return next;
    });
    runSql(sql, current.signal)
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

  useEffect(() => () => abort.current?.abort(), []);
  return { answer, problem, isRunning, history, run, cancel };
}
