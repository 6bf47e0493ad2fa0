/** Turns series into what ECharts draws. Pure: the same input gives the same picture. */
import type { Aggregation } from '../api/types';
import { formatNumber } from './format';
import { pauseMs, withBreaks } from './gaps';
import { lineColour, type Palette } from './palette';
import { lowerBound, type Point, type Series } from './series';

export interface Drawing {
  series: Series[];
  shown: Aggregation;
  granularityMs: number;
  lower: number;
  upper: number;
  /** Key of the line to bring out; the others fade. */
  highlighted: string | null;
}

/** If no line has as many points as this, each point gets a dot. */
const DOTS_BELOW = 40;

const valueOf = (shown: Aggregation) => (point: Point) => point.values[shown] ?? null;

/** Points in the window and one on each side, so that lines run out of the picture instead of starting in it. */
export function pointsInWindow(points: Point[], lower: number, upper: number): Point[] {
  return points.slice(Math.max(0, lowerBound(points, lower) - 1), lowerBound(points, upper) + 1);
}

const BAND_LINE = { type: 'line', stack: 'band', stackStrategy: 'all', silent: true, symbol: 'none', z: 1 } as const;
const NO_LINE = { lineStyle: { opacity: 0 }, emphasis: { disabled: true } } as const;

/** Two stacked lines: an invisible one at the minimum, and the filled height up to the maximum. */
function band(points: Point[], pause: number, palette: Palette) {
  const low = withBreaks(points, pause, ({ values }) => values.min ?? null);
  const height = withBreaks(points, pause, ({ values }) =>
    values.min == null || values.max == null ? null : values.max - values.min);
  return [
    { ...BAND_LINE, ...NO_LINE, id: 'band-low', data: low },
    { ...BAND_LINE, ...NO_LINE, id: 'band-height', data: height, areaStyle: { color: palette.band, opacity: 1 } },
  ];
}

function line(series: Series, index: number, drawing: Drawing, palette: Palette) {
  const points = pointsInWindow(series.points, drawing.lower, drawing.upper);
  const pause = pauseMs(points, drawing.granularityMs);
  const colour = lineColour(palette, index, drawing.series.length);
  const isFaded = drawing.highlighted !== null && drawing.highlighted !== series.key;
  const isSparse = drawing.series.every((one) => one.points.length < DOTS_BELOW);
  return {
    type: 'line',
    id: `line-${series.key}`,
    data: withBreaks(points, pause, valueOf(drawing.shown)),
    showSymbol: isSparse,
    symbol: 'circle',
    symbolSize: 5,
    sampling: points.length > 4000 ? 'lttb' : undefined,
    itemStyle: { color: colour, opacity: isFaded ? 0.15 : 1 },
    lineStyle: { color: colour, width: drawing.highlighted === series.key ? 2.4 : 1.6, opacity: isFaded ? 0.15 : 1 },
    emphasis: { disabled: true },
    z: drawing.highlighted === series.key ? 4 : 3,
  };
}

/** A dot at the newest point of each line. */
function heads(drawing: Drawing, palette: Palette) {
  return drawing.series.flatMap((series, index) => {
    const last = series.points.at(-1);
    const value = last && valueOf(drawing.shown)(last);
    if (!last || value == null) return [];
    const isFaded = drawing.highlighted !== null && drawing.highlighted !== series.key;
    const color = lineColour(palette, index, drawing.series.length);
    return [{ value: [last.time, value], itemStyle: { color, opacity: isFaded ? 0.15 : 1 } }];
  });
}

/** The part that changes with the data and the moving window. */
export function dataOption(drawing: Drawing, palette: Palette) {
  const only = drawing.series.length === 1 ? drawing.series[0] : undefined;
  const points = only ? pointsInWindow(only.points, drawing.lower, drawing.upper) : [];
  const hasBand = drawing.shown === 'avg' && only !== undefined;
  return {
    xAxis: { min: drawing.lower, max: drawing.upper },
    series: [
      ...(hasBand ? band(points, pauseMs(points, drawing.granularityMs), palette) : []),
      ...drawing.series.map((series, index) => line(series, index, drawing, palette)),
      {
        type: 'scatter',
        id: 'heads',
        data: heads(drawing, palette),
        symbolSize: 7,
        silent: true,
        z: 5,
        itemStyle: { borderColor: palette.panel, borderWidth: 1.5 },
      },
    ],
  };
}

/** The part that only the theme and the width change. */
export function frameOption(palette: Palette, isNarrow: boolean) {
  return {
    animation: false,
    // Fixed margins: measured ones would move the whole picture whenever a label comes or goes.
    grid: { left: isNarrow ? 46 : 56, right: 16, top: 14, bottom: 26, outerBoundsMode: 'none' },
    xAxis: {
      type: 'time',
      splitNumber: isNarrow ? 3 : 8,
      axisLine: { lineStyle: { color: palette.axis } },
      axisTick: { lineStyle: { color: palette.axis } },
      axisLabel: { color: palette.text, fontSize: 11, hideOverlap: true, showMinLabel: false, showMaxLabel: false },
      splitLine: { show: false },
    },
    yAxis: {
      type: 'value',
      scale: true,
      splitNumber: 5,
      axisLabel: { color: palette.text, fontSize: 11, formatter: (value: number) => formatNumber(value) },
      splitLine: { lineStyle: { color: palette.grid } },
    },
    tooltip: {
      trigger: 'axis',
      confine: true,
      transitionDuration: 0,
      padding: 0,
      backgroundColor: palette.panel,
      borderColor: palette.border,
      extraCssText: 'box-shadow: 0 6px 24px rgba(0,0,0,.18); border-radius: 6px;',
      axisPointer: { type: 'line', snap: true, lineStyle: { color: palette.axis, type: 'solid' } },
    },
  };
}
