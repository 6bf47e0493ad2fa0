/** Filters on dimensions as `dimension:value` texts, the form that the API and the URL share. */

export interface Filter {
  dimension: string;
  value: string;
}

export function filterText({ dimension, value }: Filter): string {
  return `${dimension}:${value}`;
}

/** Reads `dimension:value`, cut at the first colon; null for anything else. */
export function parseFilter(text: string): Filter | null {
  const colon = text.indexOf(':');
  return colon <= 0 ? null : { dimension: text.slice(0, colon), value: text.slice(colon + 1) };
}

const isSame = (a: Filter, b: Filter) => a.dimension === b.dimension && a.value === b.value;

export function hasFilter(filters: Filter[], filter: Filter): boolean {
  return filters.some((one) => isSame(one, filter));
}

/** Adds the filter, or removes it if it is there. */
export function toggleFilter(filters: Filter[], filter: Filter): Filter[] {
  return hasFilter(filters, filter) ? filters.filter((one) => !isSame(one, filter)) : [...filters, filter];
}
