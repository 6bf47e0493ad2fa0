/**
 * The words of the HTTP API that the page uses, from the golden description `api/openapi.json` (`npm run types`).
 *
 * Written by hand is only what JSON schemas say too loosely: rows, points, and the frames of the WebSocket. Epochs are
 * microseconds and stay below 2^53.
 */
import type { components } from './schema';

type Schemas = components['schemas'];

export type Aggregation = 'avg' | 'sum' | 'min' | 'max' | 'count';

export type Dimensions = Record<string, string>;

/** An error answer: RFC 9457 problem details with a stable code. */
export type Problem = Schemas['Problem'];

export type MetricSummary = Required<Schemas['MetricInfo']>;

export interface MetricList {
  metrics: MetricSummary[];
}

export type MetricDimensions = Schemas['DimensionList'];

/** A bucket: its lower bound, then one value for each aggregation asked for, in that order. */
export type WirePoint = [time: string, ...values: (number | null)[]];

export interface WireSeries {
  dimensions: Dimensions;
  points: WirePoint[];
}

/** What an answer from memory alone lacks. */
export type PartialAnswer = Schemas['PartialAnswer'];

export type SeriesData = Omit<Schemas['DataAnswer'], 'series'> & { series: WireSeries[] };

export type Column = Schemas['ColumnInfo'];

export type StreamDefinition = Schemas['StreamInfo'];

export type StreamList = Schemas['StreamList'];

export type Cell = string | number | boolean | null | Cell[] | { [key: string]: Cell };

export type SqlAnswer = Omit<Schemas['SqlAnswer'], 'rows'> & { rows: Cell[][] };

export type Status = Schemas['Status'];

/** What the page sends over `/api/v1/live`. */
export type LiveRequest =
  | {
      type: 'subscribe';
      id: string;
      metric: string;
      granularity: string;
      filter?: string;
      group_by?: string[];
      range: string;
      aggregations: Aggregation[];
      partial: boolean;
    }
  | { type: 'unsubscribe'; id: string };

/** What the server sends over `/api/v1/live`. */
export type LiveMessage =
  | {
      type: 'snapshot';
      id: string;
      epoch: number;
      granularity: string;
      aggregations: Aggregation[];
      series: WireSeries[];
      partial?: PartialAnswer | null;
    }
  | { type: 'change'; id: string; epoch: number; series: WireSeries[] }
  | { type: 'heartbeat'; epoch: number; time: string | number }
  | { type: 'error'; id?: string | null; code: string; detail: string };
