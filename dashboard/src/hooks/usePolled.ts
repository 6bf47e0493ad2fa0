/** Reads something now and again at an interval, keeping the last good answer when a later one fails. */
import { useCallback, useEffect, useRef, useState } from 'react';
import { toProblem } from '../api/client';
import type { Problem } from '../api/types';

export interface Polled<T> {
  data: T | null;
  problem: Problem | null;
  updatedAt: number | null;
  isLoading: boolean;
  refresh: () => void;
}

interface Answer<T> {
  key: string | null;
  data: T | null;
  problem: Problem | null;
  updatedAt: number | null;
}

interface PollOptions {
  /** Pause between an answer and the next question; null asks once. */
  intervalMs: number | null;
  /** Shows the answer of the previous key until the new one is there. */
  keepPrevious?: boolean;
}

/** `key` names what is read: a new key reads at once, and null reads nothing. */
export function usePolled<T>(
  key: string | null,
  read: (signal: AbortSignal) => Promise<T>,
  { intervalMs, keepPrevious = false }: PollOptions,
): Polled<T> {
  const [answer, setAnswer] = useState<Answer<T>>({ key: null, data: null, problem: null, updatedAt: null });
  const [round, setRound] = useState(0);
  const latestRead = useRef(read);
  latestRead.current = read;

  useEffect(() => {
    if (key === null) return undefined;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const ask = async () => {
      if (!document.hidden) {
        try {
          const data = await latestRead.current(abort.signal);
          if (!abort.signal.aborted) setAnswer({ key, data, problem: null, updatedAt: Date.now() });
        } catch (error) {
          if (abort.signal.aborted) return;
          const problem = toProblem(error);
          setAnswer((last) => (last.key === key ? { ...last, problem } : { key, data: null, problem, updatedAt: null }));
        }
      }
      if (intervalMs !== null && !abort.signal.aborted) timer = setTimeout(ask, intervalMs);
    };
    void ask();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, intervalMs, round]);

  const refresh = useCallback(() => setRound((last) => last + 1), []);
  const isCurrent = answer.key === key;
  return {
    data: isCurrent || keepPrevious ? answer.data : null,
    problem: isCurrent ? answer.problem : null,
    updatedAt: isCurrent ? answer.updatedAt : null,
    isLoading: key !== null && !isCurrent,
    refresh,
  };
}
