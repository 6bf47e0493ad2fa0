/**
 * The buckets that a chart shows, by series. A snapshot replaces everything; a change replaces single buckets by
 * their time. Points stay sorted; adding at the end, the usual case, costs O(1).
 */
import type { Aggregation, Dimensions, WirePoint, WireSeries } from '../api/types';

export interface Point {
  time: number;
  values: Partial<Record<Aggregation, number | null>>;
}

export interface Series {
  key: string;
  dimensions: Dimensions;
  points: Point[];
}

/** One text for one set of dimensions, whatever the order of its keys. */
export function seriesKey(dimensions: Dimensions): string {
  return JSON.stringify(Object.entries(dimensions).sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function readPoint([time, ...values]: WirePoint, order: Aggregation[]): Point {
  const point: Point = { time: Date.parse(time), values: {} };
  order.forEach((aggregation, at) => (point.values[aggregation] = values[at] ?? null));
  return point;
}

/** Index of the first point at or after `time`. */
export function lowerBound(points: Point[], time: number): number {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((points[middle]?.time ?? Infinity) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function put(points: Point[], point: Point): void {
  const last = points.at(-1);
  if (last === undefined || last.time < point.time) {
    points.push(point);
    return;
  }
  const at = lowerBound(points, point.time);
  points.splice(at, points[at]?.time === point.time ? 1 : 0, point);
}

export class SeriesSet {
  /** Grows with each applied message. */
  revision = 0;
  /** Grows when series appear or everything was replaced; ranking is done anew then. */
  shape = 0;
  epoch = 0;
  private byKey = new Map<string, Series>();

  all(): Series[] {
    return [...this.byKey.values()];
  }

  get(key: string): Series | undefined {
    return this.byKey.get(key);
  }

  get size(): number {
    return this.byKey.size;
  }

  clear(): void {
    this.replace({ epoch: 0, aggregations: [], series: [] });
  }

  replace(batch: { epoch: number; aggregations: Aggregation[]; series: WireSeries[] }): void {
    this.byKey = new Map();
    this.shape += 1;
    this.apply(batch);
  }

  /** Puts whole new values of buckets in place. */
  apply(batch: { epoch: number; aggregations: Aggregation[]; series: WireSeries[] }): void {
    this.epoch = batch.epoch;
    this.revision += 1;
    for (const { dimensions, points } of batch.series) {
      const series = this.seriesOf(dimensions);
      for (const wire of points) put(series.points, readPoint(wire, batch.aggregations));
    }
  }

  /** Forgets buckets before `time`; called now and then so that an open page does not grow. */
  trimBefore(time: number): void {
    for (const [key, series] of this.byKey) {
      const cut = lowerBound(series.points, time);
      if (cut > 0) series.points.splice(0, cut);
      if (series.points.length === 0) {
        this.byKey.delete(key);
        this.shape += 1;
      }
    }
  }

  private seriesOf(dimensions: Dimensions): Series {
    const key = seriesKey(dimensions);
    const known = this.byKey.get(key);
    if (known) return known;
    const series: Series = { key, dimensions, points: [] };
    this.byKey.set(key, series);
    this.shape += 1;
    return series;
  }
}
