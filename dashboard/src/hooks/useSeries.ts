/** Follows the series of a query: over the live connection for a moving range, over HTTP for a fixed one. */
import { useCallback, useEffect, useRef, useState } from 'react';
import { readData, toProblem } from '../api/client';
import type { Aggregation, PartialAnswer, Problem } from '../api/types';
import { durationMs, rangeMs, type TimeRange } from '../chart/granularity';
import { SeriesSet } from '../chart/series';
import { connection } from '../live/browser';
import type { Batch, LiveListener, LiveQuery } from '../live/connection';
import { filterText, type Filter } from '../state/filters';

export interface SeriesQuery {
  metric: string;
  granularity: string;
  range: TimeRange;
  filters: Filter[];
  group: string | null;
}

export interface Feed {
  set: SeriesSet;
  granularityMs: number;
  phase: 'loading' | 'ready' | 'error';
  problem: Problem | null;
  /** What the series lack while ClickHouse is away. */
  partial: PartialAnswer | null;
  watch: (watcher: () => void) => () => void;
  retry: () => void;
}

const AGGREGATIONS: Aggregation[] = ['avg', 'min', 'max', 'count', 'sum'];
/** Late events may still correct a fixed range. */
const FIXED_INTERVAL_MS = 15_000;
const RETRY_MS = 3_000;

/** Reads a fixed range now and then; the counterpart of a live subscription. */
function followFixed(query: LiveQuery, [lower, upper]: [number, number], listener: LiveListener): () => void {
  const abort = new AbortController();
  let timer: ReturnType<typeof setTimeout>;
  const bounds = { start: new Date(lower).toISOString(), end: new Date(upper).toISOString() };
  const read = async () => {
    try {
      const data = await readData({ ...query, ...bounds }, abort.signal);
      if (!abort.signal.aborted) listener.onSnapshot({ ...data, aggregations: query.aggregations });
    } catch (error) {
      if (!abort.signal.aborted) listener.onError(toProblem(error));
    }
    if (!abort.signal.aborted) timer = setTimeout(read, FIXED_INTERVAL_MS);
  };
  void read();
  return () => {
    abort.abort();
    clearTimeout(timer);
  };
}

function follow(query: SeriesQuery, listener: LiveListener): () => void {
  const live: LiveQuery = {
    metric: query.metric,
    granularity: query.granularity,
    filter: query.filters.map(filterText),
    groupBy: query.group ? [query.group] : [],
    range: query.range.kind === 'relative' ? query.range.span : '',
    aggregations: AGGREGATIONS,
  };
  if (query.range.kind === 'custom') return followFixed(live, [query.range.from, query.range.to], listener);
  return connection.subscribe(live, listener);
}

export function useSeries(query: SeriesQuery): Feed {
  const [set] = useState(() => new SeriesSet());
  const [watchers] = useState(() => new Set<() => void>());
  const [phase, setPhase] = useState<Feed['phase']>('loading');
  const [problem, setProblem] = useState<Problem | null>(null);
  const [partial, setPartial] = useState<PartialAnswer | null>(null);
  const [attempt, setAttempt] = useState(0);
  const metric = useRef(query.metric);
  const key = JSON.stringify(query);

  useEffect(() => {
    const parsed = JSON.parse(key) as SeriesQuery;
    if (metric.current !== parsed.metric) {
      metric.current = parsed.metric;
      set.clear();
    }
    setPhase('loading');
    setProblem(null);
    let retryTimer: ReturnType<typeof setTimeout>;
    const took = (apply: (batch: Batch) => void) => (batch: Batch) => {
      apply(batch);
      for (const watcher of watchers) watcher();
    };
    const stop = follow(parsed, {
      onSnapshot: took((batch) => {
        set.replace(batch);
        setPartial(batch.partial ?? null);
        setPhase('ready');
        setProblem(null);
      }),
      onChange: took((batch) => set.apply(batch)),
      onError: (refusal) => {
        setProblem(refusal);
        setPhase('error');
        if (parsed.range.kind === 'relative') retryTimer = setTimeout(() => setAttempt((last) => last + 1), RETRY_MS);
      },
    });
    const span = rangeMs(parsed.range);
    const trimTimer = setInterval(() => {
      if (parsed.range.kind === 'relative') set.trimBefore(connection.now() - span * 1.05);
    }, 10_000);
    return () => {
      stop();
      clearTimeout(retryTimer);
      clearInterval(trimTimer);
    };
  }, [key, attempt, set, watchers]);

  const watch = useCallback((watcher: () => void) => {
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  }, [watchers]);
  const retry = useCallback(() => setAttempt((last) => last + 1), []);
  return { set, granularityMs: durationMs(query.granularity), phase, problem, partial, watch, retry };
}
