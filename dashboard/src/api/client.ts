/**
 * One function for each question the page asks over HTTP. While ClickHouse is away its charts would rather have the part
 * of an answer that is in memory, and say what is missing; a statement of the user's own is answered whole unless he asks
 * for that part. Every failure is an `ApiError` that carries a problem, also when the server cannot be reached.
 */
import type {
  Aggregation,
  MetricDimensions,
  MetricList,
  Problem,
  SeriesData,
  SqlAnswer,
  Status,
  StreamList,
} from './types';

export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.name = 'ApiError';
    this.problem = problem;
  }
}

/** Describes any failure as a problem, so that one panel can show them all. */
export function toProblem(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  const detail = error instanceof Error ? error.message : String(error);
  return { type: 'about:blank', title: 'Unexpected error', status: 0, detail, code: 'page_error' };
}

/** Whether a question failed for its part from ClickHouse alone, so that memory could answer what it has. */
export function isWithoutHistory(problem: Problem): boolean {
  return problem.code === 'history_unavailable' || problem.code === 'history_timeout';
}

function unreachable(): Problem {
  return {
    type: 'about:blank',
    title: 'Server unreachable',
    status: 0,
    detail: 'no answer from the server; it may be starting, stopped, or the network is down',
    code: 'unreachable',
  };
}

/** Reads a problem out of an error body; falls back on the status line for anything else. */
export function parseProblem(status: number, statusText: string, body: string): Problem {
  const plain: Problem = {
    type: 'about:blank',
    title: statusText || `HTTP ${status}`,
    status,
    detail: body.slice(0, 500),
    code: 'http_error',
  };
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed !== 'object' || parsed === null) return plain;
    return { ...plain, detail: '', ...(parsed as Partial<Problem>) };
  } catch {
    return plain;
  }
}

async function request<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(unreachable());
  }
  const body = await response.text();
  if (!response.ok) throw new ApiError(parseProblem(response.status, response.statusText, body));
  return JSON.parse(body) as T;
}

export function listMetrics(prefix: string, limit: number, signal: AbortSignal) {
  const query = new URLSearchParams({ prefix, limit: String(limit) });
  return request<MetricList>(`/api/v1/metrics?${query}`, { signal });
}

export function describeDimensions(metric: string, signal: AbortSignal) {
  return request<MetricDimensions>(`/api/v1/metrics/${encodeURIComponent(metric)}/dimensions`, { signal });
}

export interface DataQuery {
  metric: string;
  start: string;
  end: string;
  granularity: string;
  aggregations: Aggregation[];
  filter: string[];
  groupBy: string[];
}

export function readData(query: DataQuery, signal: AbortSignal) {
  const params = new URLSearchParams({
    start_time: query.start,
    end_time: query.end,
    granularity: query.granularity,
    aggregation: query.aggregations.join(','),
    partial: 'true',
  });
  for (const filter of query.filter) params.append('filter', filter);
  if (query.groupBy.length > 0) params.set('group_by', query.groupBy.join(','));
  return request<SeriesData>(`/api/v1/metrics/${encodeURIComponent(query.metric)}/data?${params}`, { signal });
}

export function listStreams(signal: AbortSignal) {
  return request<StreamList>('/api/v1/streams', { signal });
}

export function readStatus(signal: AbortSignal) {
  return request<Status>('/api/v1/status', { signal });
}

/** With `partial`, memory alone answers when history does not come in time. */
export function runSql(sql: string, partial: boolean, signal: AbortSignal) {
  return request<SqlAnswer>('/api/v1/sql', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sql, format: 'json', partial }),
    signal,
  });
}
