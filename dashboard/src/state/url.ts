/** The state of the page, and its form in the query string. Unknown or broken parts fall back on defaults. */
import type { Aggregation } from '../api/types';
import { GRANULARITIES, SPANS, type Granularity, type TimeRange } from '../chart/granularity';
import { filterText, parseFilter, type Filter } from './filters';

export const AGGREGATIONS = ['avg', 'sum', 'min', 'max', 'count'] as const satisfies readonly Aggregation[];

export type Tab = 'explore' | 'sql';

export interface PageState {
  tab: Tab;
  metric: string | null;
  range: TimeRange;
  granularity: Granularity;
  shown: Aggregation;
  filters: Filter[];
  group: string | null;
}

export const INITIAL: PageState = {
  tab: 'explore',
  metric: null,
  range: { kind: 'relative', span: '15m' },
  granularity: 'auto',
  shown: 'avg',
  filters: [],
  group: null,
};

function oneOf<T extends string>(allowed: readonly T[], text: string | null, fallback: T): T {
  return allowed.find((one) => one === text) ?? fallback;
}

function readRange(params: URLSearchParams): TimeRange {
  const from = Date.parse(params.get('from') ?? '');
  const to = Date.parse(params.get('to') ?? '');
  if (from < to) return { kind: 'custom', from, to };
  return { kind: 'relative', span: oneOf(SPANS, params.get('range'), '15m') };
}

export function readState(search: string): PageState {
  const params = new URLSearchParams(search);
  return {
    tab: oneOf(['explore', 'sql'], params.get('tab'), INITIAL.tab),
    metric: params.get('metric') || null,
    range: readRange(params),
    granularity: oneOf(GRANULARITIES, params.get('granularity'), INITIAL.granularity),
    shown: oneOf(AGGREGATIONS, params.get('show'), INITIAL.shown),
    filters: params.getAll('filter').flatMap((text) => parseFilter(text) ?? []),
    group: params.get('group') || null,
  };
}

/** The query string for a state, without what is default, so that links stay short. */
export function writeState(state: PageState): string {
  const params = new URLSearchParams();
  if (state.tab !== INITIAL.tab) params.set('tab', state.tab);
  if (state.metric) params.set('metric', state.metric);
  if (state.range.kind === 'custom') {
    params.set('from', new Date(state.range.from).toISOString());
    params.set('to', new Date(state.range.to).toISOString());
  } else {
    params.set('range', state.range.span);
  }
  if (state.granularity !== INITIAL.granularity) params.set('granularity', state.granularity);
  if (state.shown !== INITIAL.shown) params.set('show', state.shown);
  for (const filter of state.filters) params.append('filter', filterText(filter));
  if (state.group) params.set('group', state.group);
  return `?${params}`;
}
