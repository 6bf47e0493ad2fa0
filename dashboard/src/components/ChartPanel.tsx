/** The chart with its figures, and what stands in its place while there is nothing to draw. */
import { Button } from '@mantine/core';
import type { UpdateState } from '../hooks/useUrlState';
import { formatTime } from '../chart/format';
import type { Picture } from '../hooks/useDrawnSeries';
import type { Feed } from '../hooks/useSeries';
import type { PageState } from '../state/url';
import classes from './Explore.module.css';
import { EmptyFace, ErrorFace, LoadingFace, PartialNote, StaleNote } from './faces';
import { Figures } from './Figures';
import { SeriesChart } from './SeriesChart';

interface ChartPanelProps {
  metric: string;
  state: PageState;
  update: UpdateState;
  feed: Feed;
  granularity: string;
  picture: Picture;
  highlighted: string | null;
  lastTime: string | null;
}

const HOUR_MS = 3_600_000;

function NothingInRange({ lastTime, state, update }: Pick<ChartPanelProps, 'lastTime' | 'state' | 'update'>) {
  const last = lastTime === null ? Number.NaN : Date.parse(lastTime);
  const isNarrowed = state.filters.length > 0;
  return (
    <EmptyFace title="No events in this range">
      {Number.isFinite(last) && <p>The last event of this metric is of {formatTime(last)}.</p>}
      <Button.Group className={classes['centre']}>
        {Number.isFinite(last) && (
          <Button
            size="xs" variant="default"
            onClick={() => update({ range: { kind: 'custom', from: last - HOUR_MS, to: last + 1000 } })}
          >
            Show the hour before it
          </Button>
        )}
        {isNarrowed && (
          <Button size="xs" variant="default" onClick={() => update({ filters: [] })}>Remove the filters</Button>
        )}
      </Button.Group>
    </EmptyFace>
  );
}

export function ChartPanel(props: ChartPanelProps) {
  const { metric, state, update, feed, granularity, picture, highlighted, lastTime } = props;
  const { drawn, total } = picture;
  const isEmpty = total.count === 0;
  return (
    <section className={classes['panel']} aria-label={`Chart of ${metric}`}>
      <div className={classes['chartHead']}>
        <Figures
          drawn={drawn} total={total} seriesCount={feed.set.size} granularity={granularity} shown={state.shown}
        />
        <StaleNote />
      </div>
      {feed.partial && <PartialNote partial={feed.partial}>History is missing, live goes on</PartialNote>}
      {feed.problem && <ErrorFace problem={feed.problem} onRetry={feed.retry} />}
      <div className={classes['stage']} data-phase={feed.phase} aria-busy={feed.phase === 'loading'}>
        <SeriesChart
          metric={metric} feed={feed} drawn={drawn} shown={state.shown} range={state.range} highlighted={highlighted}
          onZoom={(from, to) => update({ range: { kind: 'custom', from, to } })}
        />
        {feed.phase === 'loading' && isEmpty && (
          <div className={classes['over']}><LoadingFace label="Loading series" /></div>
        )}
        {feed.phase === 'ready' && isEmpty && (
          <div className={classes['over']}><NothingInRange lastTime={lastTime} state={state} update={update} /></div>
        )}
      </div>
    </section>
  );
}
