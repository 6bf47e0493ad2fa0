/** The chart: one line a series, with the span of values behind a single one. Drag to zoom into a stretch. */
import { useComputedColorScheme, VisuallyHidden } from '@mantine/core';
import { useMemo, useRef } from 'react';
import type { Aggregation } from '../api/types';
import { formatNumber, formatTime } from '../chart/format';
import type { TimeRange } from '../chart/granularity';
import { paletteOf } from '../chart/palette';
import { seriesName } from '../chart/rank';
import { useChart } from '../hooks/useChart';
import { useDragZoom } from '../hooks/useDragZoom';
import type { DrawnSeries } from '../hooks/useDrawnSeries';
import type { Feed } from '../hooks/useSeries';
import classes from './Explore.module.css';

interface SeriesChartProps {
  metric: string;
  feed: Feed;
  drawn: DrawnSeries[];
  shown: Aggregation;
  range: TimeRange;
  highlighted: string | null;
  onZoom: (from: number, to: number) => void;
}

/** The newest bucket of each line, for those who do not see the canvas. */
function LatestTable({ metric, drawn, shown }: Pick<SeriesChartProps, 'metric' | 'drawn' | 'shown'>) {
  return (
    <VisuallyHidden>
      <table data-testid="latest">
        <caption>Latest buckets of {metric}</caption>
        <thead>
          <tr><th>Series</th><th>Bucket</th><th>{shown}</th><th>Count</th></tr>
        </thead>
        <tbody>
          {drawn.map(({ series }) => {
            const last = series.points.at(-1);
            return (
              <tr key={series.key}>
                <th scope="row">{seriesName(series.dimensions)}</th>
                <td>{last ? formatTime(last.time) : '–'}</td>
                <td>{formatNumber(last?.values[shown])}</td>
                <td>{formatNumber(last?.values.count)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </VisuallyHidden>
  );
}

export function SeriesChart({ metric, feed, drawn, shown, range, highlighted, onZoom }: SeriesChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const scheme = useComputedColorScheme('light');
  const palette = useMemo(() => paletteOf(scheme), [scheme]);
  const keys = useMemo(() => drawn.map(({ series }) => series.key), [drawn]);
  const chart = useChart(host, {
    set: feed.set, granularityMs: feed.granularityMs, keys, shown, range, highlighted, palette,
  });
  const { selection, handlers } = useDragZoom(chart, onZoom);
  return (
    <div className={classes['chartBox']} {...handlers}>
      <div
        ref={host} className={classes['chart']} role="img" data-testid="chart" data-metric={metric}
        aria-label={`Chart of ${metric}, ${shown}, ${drawn.length} series; its latest values are in the table that follows`}
      />
      {selection && <div className={classes['selection']} style={selection} />}
      <LatestTable metric={metric} drawn={drawn} shown={shown} />
    </div>
  );
}
