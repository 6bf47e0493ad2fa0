/** Which series are drawn, and what their lines are called. */
import type { Aggregation, Dimensions } from '../api/types';
import type { Point, Series } from './series';

/** More lines than this cannot be told apart. */
export const SERIES_MAX = 20;

export interface Summary {
  last: number | null;
  min: number | null;
  max: number | null;
  avg: number | null;
  count: number;
}

/** The figures of the points within `[lower, upper]`, weighing averages by count. */
export function summarise(points: Point[], lower: number, upper: number, shown: Aggregation): Summary {
  const summary: Summary = { last: null, min: null, max: null, avg: null, count: 0 };
  let total = 0;
  for (const { time, values } of points) {
    if (time < lower || time > upper) continue;
    const count = values.count ?? 0;
    summary.count += count;
    total += (values.avg ?? 0) * count;
    summary.last = values[shown] ?? null;
    if (values.min != null) summary.min = Math.min(summary.min ?? Infinity, values.min);
    if (values.max != null) summary.max = Math.max(summary.max ?? -Infinity, values.max);
  }
  if (summary.count > 0) summary.avg = total / summary.count;
  return summary;
}

/** The figures of several series taken together; there is no common last value. */
export function total(summaries: Summary[]): Summary {
  const whole: Summary = { last: null, min: null, max: null, avg: null, count: 0 };
  let weighted = 0;
  for (const { min, max, avg, count } of summaries) {
    whole.count += count;
    weighted += (avg ?? 0) * count;
    if (min !== null) whole.min = Math.min(whole.min ?? Infinity, min);
    if (max !== null) whole.max = Math.max(whole.max ?? -Infinity, max);
  }
  if (whole.count > 0) whole.avg = weighted / whole.count;
  return whole;
}

function weight(series: Series, shown: Aggregation): number {
  let sum = 0;
  for (const { values } of series.points) sum += values[shown] ?? 0;
  return series.points.length === 0 ? -Infinity : sum / series.points.length;
}

/** Keys of the series to draw: those with the highest mean, in the order of their names so that colours stay put. */
export function pickSeries(series: Series[], shown: Aggregation, max: number = SERIES_MAX): string[] {
  const byWeight = series.map((one) => ({ one, weight: weight(one, shown) }));
  byWeight.sort((a, b) => b.weight - a.weight || (a.one.key < b.one.key ? -1 : 1));
  const picked = byWeight.slice(0, max).map(({ one }) => one);
  picked.sort((a, b) => seriesName(a.dimensions).localeCompare(seriesName(b.dimensions), 'en', { numeric: true }));
  return picked.map(({ key }) => key);
}

/** `web-1` for one dimension, `web-1 · eu` for several, `all` for none, `(none)` where a value is missing. */
export function seriesName(dimensions: Dimensions): string {
  const values = Object.values(dimensions);
  return values.length === 0 ? 'all' : values.map((value) => value || '(none)').join(' · ');
}
