/** Arranges the metric list, the chart and the drill-down. */
import { useEffect, useState } from 'react';
import { AUTO_POINTS_MAX, AUTO_POINTS_MAX_NARROW, rangeMs, resolveGranularity } from '../chart/granularity';
import { Breadcrumbs } from '../components/Breadcrumbs';
import { ChartPanel } from '../components/ChartPanel';
import { DimensionPanel } from '../components/DimensionPanel';
import classes from '../components/Explore.module.css';
import { ErrorFace, LoadingFace } from '../components/faces';
import { FirstEvent } from '../components/FirstEvent';
import { Legend } from '../components/Legend';
import { MetricList } from '../components/MetricList';
import { MetricPicker } from '../components/MetricPicker';
import { Toolbar } from '../components/Toolbar';
import { useDrawnSeries } from '../hooks/useDrawnSeries';
import { useNarrow } from '../hooks/useNarrow';
import { useSeries } from '../hooks/useSeries';
import { useDimensions, useMetrics } from '../hooks/useServer';
import type { UpdateState } from '../hooks/useUrlState';
import type { PageState } from '../state/url';

interface PageProps {
  state: PageState;
  update: UpdateState;
}

interface MetricViewProps extends PageProps {
  metric: string;
  lastTime: string | null;
}

function MetricView({ metric, lastTime, state, update }: MetricViewProps) {
  const [highlighted, setHighlighted] = useState<string | null>(null);
  const { range, filters, group, shown } = state;
  const pointsMax = useNarrow() ? AUTO_POINTS_MAX_NARROW : AUTO_POINTS_MAX;
  const granularity = resolveGranularity(state.granularity, rangeMs(range), pointsMax);
  const feed = useSeries({ metric, granularity, range, filters, group });
  const picture = useDrawnSeries(feed, range, shown);
  const dimensions = useDimensions(metric);
  const pick = (value: string) => {
    setHighlighted(null);
    if (group) update({ filters: [...filters, { dimension: group, value }], group: null });
  };
  return (
    <>
      <div className={classes['head']}>
        <Breadcrumbs state={{ ...state, metric }} update={update} />
        <Toolbar
          state={state} update={update} automatic={resolveGranularity('auto', rangeMs(range), pointsMax)}
          dimensions={Object.keys(dimensions.data?.dimensions ?? {})}
        />
      </div>
      <ChartPanel
        metric={metric} state={state} update={update} feed={feed} granularity={granularity} picture={picture}
        highlighted={highlighted} lastTime={lastTime}
      />
      <div className={classes['below']} data-grouped={group !== null || undefined}>
        {group && (
          <Legend group={group} drawn={picture.drawn} total={feed.set.size} onHighlight={setHighlighted} onPick={pick} />
        )}
        <DimensionPanel polled={dimensions} state={state} update={update} />
      </div>
    </>
  );
}

export function ExplorePage({ state, update }: PageProps) {
  const isNarrow = useNarrow();
  // Sorted by name, the first with the chosen name as prefix is that name; without one, it is the first of all.
  const { data, problem, refresh } = useMetrics(state.metric ?? '', 1);
  const first = data?.metrics[0] ?? null;
  const lastTime = first !== null && first.name === state.metric ? first.last_time : null;

  useEffect(() => {
    if (state.metric === null && first !== null) update({ metric: first.name }, 'replace');
  }, [state.metric, first, update]);

  const select = (metric: string) => {
    if (metric !== state.metric) update({ metric, filters: [], group: null });
  };

  if (state.metric === null && data?.metrics.length === 0) return <FirstEvent />;
  return (
    <div className={classes['page']}>
      {!isNarrow && (
        <aside className={classes['side']} aria-label="Metrics">
          <MetricList selected={state.metric} onSelect={select} />
        </aside>
      )}
      <div className={classes['content']}>
        {isNarrow && <MetricPicker selected={state.metric} onSelect={select} />}
        {state.metric === null && (problem
          ? <ErrorFace problem={problem} onRetry={refresh} />
          : <LoadingFace label="Loading metrics" />)}
        {state.metric !== null && (
          <MetricView metric={state.metric} lastTime={lastTime} state={state} update={update} />
        )}
      </div>
    </div>
  );
}
