/** What the page asks the server over HTTP, each as one hook. */
import { describeDimensions, listMetrics, listStreams, readStatus } from '../api/client';
import { usePolled } from './usePolled';

/** How many metrics a list shows; a longer prefix narrows it. */
export const METRICS_MAX = 200;

export function useMetrics(prefix: string, limit: number = METRICS_MAX) {
  return usePolled(`metrics/${limit}/${prefix}`, (signal) => listMetrics(prefix, limit, signal), {
    intervalMs: 2_000,
    keepPrevious: true,
  });
}

export function useDimensions(metric: string | null) {
  return usePolled(metric && `dimensions/${metric}`, (signal) => describeDimensions(metric ?? '', signal), {
    intervalMs: 10_000,
  });
}

export function useStatus() {
  return usePolled('status', readStatus, { intervalMs: 2_000 });
}

export function useStreams() {
  return usePolled('streams', listStreams, { intervalMs: 30_000 });
}
