/** The figures of the whole range: the newest value, average, extremes, events. */
import type { Aggregation } from '../api/types';
import { formatCount, formatNumber } from '../chart/format';
import type { Summary } from '../chart/rank';
import type { DrawnSeries } from '../hooks/useDrawnSeries';
import classes from './Explore.module.css';

interface FiguresProps {
  drawn: DrawnSeries[];
  total: Summary;
  seriesCount: number;
  granularity: string;
  shown: Aggregation;
}

export function Figures({ drawn, total, seriesCount, granularity, shown }: FiguresProps) {
  const only = drawn.length === 1 ? drawn[0] : undefined;
  const isCut = seriesCount > drawn.length;
  const figures: [string, string][] = [
    ...(only ? [[`Latest ${shown}`, formatNumber(only.summary.last)] as [string, string]] : []),
    ['Average', formatNumber(total.avg)],
    ['Minimum', formatNumber(total.min)],
    ['Maximum', formatNumber(total.max)],
    ['Events', formatCount(total.count)],
    ['Series', isCut ? `${drawn.length} of ${seriesCount}` : String(drawn.length)],
    ['Bucket', granularity],
  ];
  return (
    <dl className={classes['figures']}>
      {figures.map(([label, value]) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd data-testid={`figure-${label.toLowerCase().split(' ')[0]}`}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
