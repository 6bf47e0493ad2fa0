/** The metrics by name, with their last values; typing narrows them by prefix. */
import { CloseButton, TextInput } from '@mantine/core';
import { useEffect, useRef, useState, type KeyboardEvent } from 'react';
import { formatNumber, formatSpan } from '../chart/format';
import { useDebouncedValue } from '@mantine/hooks';
import { useNow } from '../hooks/useLink';
import { METRICS_MAX, useMetrics } from '../hooks/useServer';
import { EmptyFace, ErrorFace, LoadingFace, StaleLine } from './faces';
import { SearchIcon } from './icons';
import classes from './MetricList.module.css';

interface MetricListProps {
  selected: string | null;
  onSelect: (metric: string) => void;
}

const FRESH_MS = 30_000;

function Age({ at, now }: { at: string | null; now: number }) {
  if (at === null) return null;
  const age = Math.max(0, now - Date.parse(at));
  return <span className={classes['age']}>{age < FRESH_MS ? '' : `${formatSpan(age)} ago`}</span>;
}

export function MetricList({ selected, onSelect }: MetricListProps) {
  const [text, setText] = useState('');
  const [prefix] = useDebouncedValue(text.trim(), 150);
  const { data, problem, isLoading, refresh } = useMetrics(prefix);
  const list = useRef<HTMLUListElement>(null);
  const now = useNow(2_000);

  // Brings the chosen metric into view once, when the list is first there.
  const isThere = data !== null;
  useEffect(() => {
    list.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' });
  }, [isThere]);

  const move = (event: KeyboardEvent) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    const buttons = [...(list.current?.querySelectorAll('button') ?? [])];
    const at = buttons.findIndex((one) => one === document.activeElement);
    buttons[at + (event.key === 'ArrowDown' ? 1 : -1)]?.focus();
    event.preventDefault();
  };

  return (
    <div className={classes['panel']} onKeyDown={move}>
      <TextInput
        className={classes['search']} size="xs" placeholder="Search metrics by prefix" aria-label="Search metrics by prefix"
        value={text} onChange={(event) => setText(event.currentTarget.value)} leftSection={<SearchIcon size={14} />}
        rightSection={text && <CloseButton size="xs" aria-label="Clear" onClick={() => setText('')} />}
        data-testid="metric-search" spellCheck={false} autoComplete="off"
      />
      {problem && (data ? <StaleLine problem={problem} onRetry={refresh} /> : <ErrorFace problem={problem} onRetry={refresh} />)}
      {!data && isLoading && <LoadingFace label="Loading metrics" />}
      {data?.metrics.length === 0 && <EmptyFace title={prefix ? 'No match' : 'No metrics yet'}>{prefix}</EmptyFace>}
      <ul ref={list} className={classes['list']} aria-label="Metrics" data-stale={problem !== null || undefined}>
        {data?.metrics.map((metric) => (
          <li key={metric.name}>
            <button
              type="button" className={classes['row']} title={metric.name} onClick={() => onSelect(metric.name)}
              aria-current={metric.name === selected ? 'true' : undefined} data-testid="metric"
            >
              <span className={classes['name']}>{metric.name}</span>
              <Age at={metric.last_time} now={now} />
              <span className={classes['value']}>{formatNumber(metric.last_value)}</span>
            </button>
          </li>
        ))}
      </ul>
      {data && data.metrics.length >= METRICS_MAX && (
        <p className={classes['note']}>The first {METRICS_MAX} are shown; type to narrow.</p>
      )}
    </div>
  );
}
