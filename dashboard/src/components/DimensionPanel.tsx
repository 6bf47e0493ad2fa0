/** The dimensions of a metric: group by one, or filter by some of its values. */
import { useMemo, useState } from 'react';
import type { MetricDimensions } from '../api/types';
import type { Polled } from '../hooks/usePolled';
import type { UpdateState } from '../hooks/useUrlState';
import { hasFilter, toggleFilter } from '../state/filters';
import type { PageState } from '../state/url';
import classes from './Explore.module.css';
import { ErrorFace, LoadingFace, StaleLine } from './faces';
import { GroupIcon } from './icons';

const VALUES_AT_FIRST = 12;

/** `web-2` before `web-10`. */
const naturally = new Intl.Collator('en', { numeric: true }).compare;

interface DimensionProps {
  dimension: string;
  values: string[];
  state: PageState;
  update: UpdateState;
}

function Dimension({ dimension, values, state, update }: DimensionProps) {
  const [isWhole, setWhole] = useState(false);
  const isGrouped = state.group === dimension;
  const sorted = useMemo(() => values.toSorted(naturally), [values]);
  const shown = isWhole ? sorted : sorted.slice(0, VALUES_AT_FIRST);
  return (
    <div className={classes['dimension']} data-testid="dimension">
      <div className={classes['dimensionHead']}>
        <strong>{dimension}</strong>
        <span className={classes['dim']}>{values.length}</span>
        <button
          type="button" className={classes['groupBy']} aria-pressed={isGrouped} data-testid={`group-by-${dimension}`}
          onClick={() => update({ group: isGrouped ? null : dimension })}
        >
          <GroupIcon size={14} /> {isGrouped ? 'Grouped' : 'Group by'}
        </button>
      </div>
      <div className={classes['values']}>
        {shown.map((value) => {
          const filter = { dimension, value };
          return (
            <button
              key={value} type="button" className={classes['value']} aria-pressed={hasFilter(state.filters, filter)}
              onClick={() => update({ filters: toggleFilter(state.filters, filter) })}
            >
              {value || '(none)'}
            </button>
          );
        })}
        {values.length > VALUES_AT_FIRST && (
          <button type="button" className={classes['clear']} onClick={() => setWhole(!isWhole)}>
            {isWhole ? 'Fewer' : `${values.length - VALUES_AT_FIRST} more`}
          </button>
        )}
      </div>
    </div>
  );
}

interface DimensionPanelProps {
  polled: Polled<MetricDimensions>;
  state: PageState;
  update: UpdateState;
}

export function DimensionPanel({ polled, state, update }: DimensionPanelProps) {
  const { data, problem, isLoading, refresh } = polled;
  const entries = Object.entries(data?.dimensions ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const isBare = data !== null && entries.length === 0;
  return (
    <section className={classes['panel']} aria-label="Dimensions">
      <header className={classes['panelHead']}>
        <h2>Drill down</h2>
        <span className={classes['dim']}>
          {isBare ? 'the events of this metric carry no dimensions' : 'pick values to filter'}
        </span>
      </header>
      {problem && (data ? <StaleLine problem={problem} onRetry={refresh} /> : <ErrorFace problem={problem} onRetry={refresh} />)}
      {isLoading && <LoadingFace label="Loading dimensions" />}
      {entries.map(([dimension, values]) => (
        <Dimension key={dimension} dimension={dimension} values={values} state={state} update={update} />
      ))}
    </section>
  );
}
