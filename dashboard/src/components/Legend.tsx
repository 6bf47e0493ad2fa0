/** The lines of a grouped chart as a table: hover brings a line out, a click filters by its value. */
import { useComputedColorScheme } from '@mantine/core';
import { formatCount, formatNumber } from '../chart/format';
import { lineColour, paletteOf } from '../chart/palette';
import { SERIES_MAX } from '../chart/rank';
import type { DrawnSeries } from '../hooks/useDrawnSeries';
import classes from './Explore.module.css';

interface LegendProps {
  group: string;
  drawn: DrawnSeries[];
  total: number;
  onHighlight: (key: string | null) => void;
  onPick: (value: string) => void;
}

const COLUMNS = ['Latest', 'Avg', 'Min', 'Max', 'Events'];

export function Legend({ group, drawn, total, onHighlight, onPick }: LegendProps) {
  const palette = paletteOf(useComputedColorScheme('light'));
  return (
    <section className={classes['panel']} aria-label={`Series by ${group}`}>
      <header className={classes['panelHead']}>
        <h2>By {group}</h2>
        <span className={classes['dim']} data-testid="series-note">
          {total > drawn.length ? `${drawn.length} of ${total}, the highest on average` : `${total} series`}
        </span>
      </header>
      <div className={classes['scroll']}>
        <table className={classes['legend']} data-testid="legend">
          <thead>
            <tr>
              <th scope="col">{group}</th>
              {COLUMNS.map((column) => <th key={column} scope="col">{column}</th>)}
            </tr>
          </thead>
          <tbody onMouseLeave={() => onHighlight(null)}>
            {drawn.slice(0, SERIES_MAX).map(({ series, summary }, at) => (
              <tr key={series.key} onMouseEnter={() => onHighlight(series.key)}>
                <th scope="row">
                  <button
                    type="button" onClick={() => onPick(series.dimensions[group] ?? '')} data-testid="legend-value"
                    onFocus={() => onHighlight(series.key)} onBlur={() => onHighlight(null)} title="Show only this"
                  >
                    <i style={{ background: lineColour(palette, at, drawn.length) }} />
                    {series.dimensions[group] || '(none)'}
                  </button>
                </th>
                {[summary.last, summary.avg, summary.min, summary.max].map((value, column) => (
                  <td key={COLUMNS[column]}>{formatNumber(value)}</td>
                ))}
                <td>{formatCount(summary.count)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
