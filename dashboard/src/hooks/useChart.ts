/**
 * Draws a feed on a canvas, at most once a frame and only when there is something new: data, a moved window, or
 * another input. Expensive pictures are drawn less often, so that drawing takes a quarter of the time at most; what a
 * picture costs is read off the delay of the frame after it, which includes painting.
 */
import { useEffect, useRef, type RefObject } from 'react';
import { openChart, type Chart } from '../chart/echarts';
import type { TimeRange } from '../chart/granularity';
import { rangeMs, windowOf } from '../chart/granularity';
import { dataOption, frameOption } from '../chart/option';
import { lineColour, type Palette } from '../chart/palette';
import type { Series, SeriesSet } from '../chart/series';
import { tooltipHtml } from '../chart/tooltip';
import type { Aggregation } from '../api/types';
import { connection } from '../live/browser';

export interface ChartInput {
  set: SeriesSet;
  keys: string[];
  shown: Aggregation;
  range: TimeRange;
  granularityMs: number;
  highlighted: string | null;
  palette: Palette;
}

const NARROW_PX = 560;
const COST_SHARE = 4;
/** A frame this late was held up by the picture before it. */
const LATE_FRAME_MS = 25;
/** A hidden or sleeping page delays frames too; that is not a cost. */
const COST_MAX_MS = 200;

function seriesOf({ set, keys }: ChartInput): Series[] {
  return keys.flatMap((key) => set.get(key) ?? []);
}

/** Writes what is drawn onto the element, for screen readers' scripts and tests. */
function describe(element: HTMLElement, series: Series[], input: ChartInput): void {
  const newest = series.reduce<{ time: number; value: number | null } | null>((best, { points }) => {
    const last = points.at(-1);
    if (!last || (best && best.time >= last.time)) return best;
    return { time: last.time, value: last.values[input.shown] ?? null };
  }, null);
  element.dataset['latestTime'] = newest ? new Date(newest.time).toISOString() : '';
  element.dataset['latestValue'] = newest?.value == null ? '' : String(newest.value);
  element.dataset['series'] = String(series.length);
  element.dataset['points'] = String(series.reduce((sum, { points }) => sum + points.length, 0));
  element.dataset['epoch'] = String(input.set.epoch);
}

function drawFrame(chart: Chart, element: HTMLElement, read: () => ChartInput): void {
  const { palette } = read();
  const frame = frameOption(palette, element.clientWidth < NARROW_PX);
  const formatter = (params: unknown) => {
    const first: unknown = Array.isArray(params) ? params[0] : params;
    const time = Number((first as { axisValue?: number } | undefined)?.axisValue);
    const input = read();
    const series = seriesOf(input);
    const drawn = series.map((one, at) => ({ series: one, colour: lineColour(input.palette, at, series.length) }));
    const reach = Math.max(input.granularityMs, rangeMs(input.range) / 50);
    return tooltipHtml(drawn, time, reach, input.shown);
  };
  chart.setOption({ ...frame, tooltip: { ...frame.tooltip, formatter } });
}

export function useChart(host: RefObject<HTMLDivElement | null>, input: ChartInput): RefObject<Chart | null> {
  const chart = useRef<Chart | null>(null);
  const latest = useRef(input);
  const isDirty = useRef(true);
  latest.current = input;
  isDirty.current = true;

  useEffect(() => {
    const element = host.current;
    if (!element) return undefined;
    const opened = openChart(element);
    chart.current = opened;
    let palette: Palette | null = null;
    let revision = -1;
    let drawnNow = 0;
    let readyAt = 0;
    let drawnAt: number | null = null;

    const draw = (now: number) => {
      const current = latest.current;
      if (palette !== current.palette) {
        palette = current.palette;
        drawFrame(opened, element, () => latest.current);
      }
      const [lower, upper] = windowOf(current.range, now);
      const series = seriesOf(current);
      const drawing = { ...current, series, lower, upper };
      opened.setOption(dataOption(drawing, current.palette), { replaceMerge: ['series'] });
      describe(element, series, current);
    };

    let frame = requestAnimationFrame(function tick(at: number) {
      frame = requestAnimationFrame(tick);
      if (drawnAt !== null && at - drawnAt > LATE_FRAME_MS) readyAt = drawnAt + COST_SHARE * Math.min(at - drawnAt, COST_MAX_MS);
      drawnAt = null;
      const current = latest.current;
      const now = connection.now();
      const pixelMs = rangeMs(current.range) / Math.max(1, element.clientWidth);
      const isMoved = current.range.kind === 'relative' && now - drawnNow >= Math.max(33, pixelMs / 2);
      const isNew = isDirty.current || current.set.revision !== revision;
      if (at < readyAt || !(isNew || isMoved)) return;
      isDirty.current = false;
      revision = current.set.revision;
      drawnNow = now;
      drawnAt = at;
      draw(now);
    });

    const observer = new ResizeObserver(() => {
      opened.resize();
      palette = null;
      isDirty.current = true;
    });
    observer.observe(element);
    return () => {
      cancelAnimationFrame(frame);
      observer.disconnect();
      opened.dispose();
      chart.current = null;
    };
  }, [host]);

  return chart;
}
