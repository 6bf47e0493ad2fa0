/** Where a line should break: buckets without events are left out, so a long pause must not become a slope. */
import type { Point } from './series';

const PAUSE_FACTOR = 4;
const USUAL_QUANTILE = 0.9;
const SAMPLE_MAX = 200;

/** The longest step between points that still belongs together: a few times what nearly all steps of it keep to. */
export function pauseMs(points: Point[], granularityMs: number): number {
  const steps: number[] = [];
  const from = Math.max(1, points.length - SAMPLE_MAX);
  for (let at = from; at < points.length; at += 1) {
    steps.push((points[at]?.time ?? 0) - (points[at - 1]?.time ?? 0));
  }
  steps.sort((a, b) => a - b);
  const usual = steps[Math.floor((steps.length - 1) * USUAL_QUANTILE)] ?? granularityMs;
  return PAUSE_FACTOR * Math.max(usual, granularityMs);
}

/** Rows `[time, value]` for a line, with a `[time, null]` inside each pause. */
export function withBreaks(
  points: Point[],
  pause: number,
  valueOf: (point: Point) => number | null,
): [number, number | null][] {
  const rows: [number, number | null][] = [];
  let previous: number | null = null;
  for (const point of points) {
    if (previous !== null && point.time - previous > pause) rows.push([previous + pause / PAUSE_FACTOR, null]);
    rows.push([point.time, valueOf(point)]);
    previous = point.time;
  }
  return rows;
}
