/** Ranges, bucket sizes, and which of them fit together. */

export const SPANS = ['15m', '1h', '6h', '24h', '7d'] as const;
export type Span = (typeof SPANS)[number];

export const GRANULARITIES = ['auto', '1s', '5s', '1m', '5m', '1h', '1d'] as const;
export type Granularity = (typeof GRANULARITIES)[number];

/** A window of event time: the last `span` up to now, or fixed bounds `[from, to)` in ms. */
export type TimeRange = { kind: 'relative'; span: Span } | { kind: 'custom'; from: number; to: number };

/** Steps that `auto` may take, fine to coarse. */
const LADDER = [
  '1s', '2s', '5s', '10s', '15s', '30s', '1m', '2m', '5m', '10m', '15m', '30m', '1h', '2h', '6h', '12h', '1d',
];
/** Points that `auto` allows on a line: about one for each two or three pixels. */
export const AUTO_POINTS_MAX = 500;
export const AUTO_POINTS_MAX_NARROW = 200;
/** More points than this on a line help nobody and cost much. */
const POINTS_MAX = 11_000;

const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `15m`, `1s`, `7d`; NaN for anything else. */
export function durationMs(text: string): number {
  const match = /^(\d+)([smhd])$/.exec(text);
  const unit = UNIT_MS[match?.[2] ?? ''];
  return match && unit ? Number(match[1]) * unit : Number.NaN;
}

export function rangeMs(range: TimeRange): number {
  return range.kind === 'relative' ? durationMs(range.span) : range.to - range.from;
}

/** The window of `range` as `[lower, upper)` in ms, at server time `now`. */
export function windowOf(range: TimeRange, now: number): [number, number] {
  return range.kind === 'relative' ? [now - durationMs(range.span), now] : [range.from, range.to];
}

/** True if buckets of this size would be too many over the range. */
export function isTooFine(granularity: string, spanMs: number): boolean {
  return granularity !== 'auto' && spanMs / durationMs(granularity) > POINTS_MAX;
}

/** The bucket size to ask for: the chosen one, or the finest of the ladder that keeps a line readable. */
export function resolveGranularity(
  choice: Granularity,
  spanMs: number,
  pointsMax: number = AUTO_POINTS_MAX,
): string {
  if (choice !== 'auto' && !isTooFine(choice, spanMs)) return choice;
  return LADDER.find((step) => spanMs / durationMs(step) <= pointsMax) ?? '1d';
}
