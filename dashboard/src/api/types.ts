/**
 * The words of the HTTP API that the page uses. Epochs are microseconds and stay below 2^53.
 */

export type Aggregation = 'avg' | 'sum' | 'min' | 'max' | 'count';

export type Dimensions = Record<string, string>;

/** An error answer: RFC 9457 problem details with a stable code. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
}

export interface MetricSummary {
  name: string;
  last_value: number | null;
  last_time: string | null;
  series_count: number;
}

export interface MetricList {
  metrics: MetricSummary[];
  epoch?: number;
}

export interface MetricDimensions {
  metric: string;
  dimensions: Record<string, string[]>;
}

/** A bucket: its lower bound, then one value for each aggregation asked for, in that order. */
export type WirePoint = [time: string, ...values: (number | null)[]];

export interface WireSeries {
  dimensions: Dimensions;
  points: WirePoint[];
}

export interface SeriesData {
  metric: string;
  granularity: string;
  aggregation: string;
  epoch: number;
  series: WireSeries[];
}

export interface Column {
  name: string;
  type: string;
}

export interface StreamDefinition {
  name: string;
  id: number | string;
  time_column: string;
  columns: Column[];
  order_by?: string[] | null;
  retention?: string | null;
  built_in: boolean;
}

export interface StreamList {
  streams: StreamDefinition[];
}

export type Cell = string | number | boolean | null | Cell[] | { [key: string]: Cell };

export interface SqlAnswer {
  columns: Column[];
  rows: Cell[][];
  row_count: number;
  epoch: number;
  elapsed_ms: number;
  truncated: boolean;
}

export interface Status {
  version: string;
  epoch: number;
  uptime_s: number;
  events_total: number;
  events_per_second: number;
  clickhouse: { mode: string; version: string | null; healthy: boolean };
  flush: { item: string; epoch: number; lag_ms: number }[];
  memory_bytes: number;
}

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
    }
  | { type: 'change'; id: string; epoch: number; series: WireSeries[] }
  | { type: 'heartbeat'; epoch: number; time: string | number }
  | { type: 'error'; id?: string | null; code: string; detail: string };
