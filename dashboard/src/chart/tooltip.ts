/** What the tooltip says about one bucket. The text comes from events, so everything is escaped. */
import type { Aggregation } from '../api/types';
import { formatCount, formatNumber, formatTime } from './format';
import { seriesName } from './rank';
import { lowerBound, type Point, type Series } from './series';

export interface TooltipSeries {
  series: Series;
  colour: string;
}

const ROWS_MAX = 12;

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

/** The point nearest to `time`, or undefined if none is within `reach` ms. */
export function nearestPoint(points: Point[], time: number, reach: number): Point | undefined {
  const at = lowerBound(points, time);
  const before = points[at - 1];
  const after = points[at];
  const best = !before || (after && after.time - time < time - before.time) ? after : before;
  return best && Math.abs(best.time - time) <= reach ? best : undefined;
}

const cell = (text: string) => `<td>${text}</td>`;

/** HTML for the bucket nearest to `time`: each drawn line with its value, count, average, minimum and maximum. */
export function tooltipHtml(drawn: TooltipSeries[], time: number, reach: number, shown: Aggregation): string {
  const found = drawn.flatMap(({ series, colour }) => {
    const point = nearestPoint(series.points, time, reach);
    return point ? [{ name: seriesName(series.dimensions), colour, point }] : [];
  });
  const nearest = found.toSorted((a, b) => Math.abs(a.point.time - time) - Math.abs(b.point.time - time))[0];
  if (!nearest) return '';
  const bucket = found.filter(({ point }) => point.time === nearest.point.time);
  bucket.sort((a, b) => (b.point.values[shown] ?? 0) - (a.point.values[shown] ?? 0));
  const rows = bucket.slice(0, ROWS_MAX).map(({ name, colour, point: { values } }) => {
    const figures = [values.avg, values.min, values.max].map((value) => cell(formatNumber(value))).join('');
    const dot = `<i style="background:${colour}"></i>`;
    return `<tr><th>${dot}${escapeHtml(name)}</th>${figures}${cell(formatCount(values.count))}</tr>`;
  });
  const rest = bucket.length - rows.length;
  const more = rest > 0 ? `<tfoot><tr><td colspan="5">and ${rest} more</td></tr></tfoot>` : '';
  return `<div class="sg-tooltip"><b>${formatTime(nearest.point.time)}</b><table><thead><tr><td></td><td>avg</td><td>min</td>`
    + `<td>max</td><td>count</td></tr></thead><tbody>${rows.join('')}</tbody>${more}</table></div>`;
}
