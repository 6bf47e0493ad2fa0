/** Which series of a feed are drawn and their figures, at a pace that people can read. */
import { useEffect, useMemo, useState } from 'react';
import type { Aggregation } from '../api/types';
import { windowOf, type TimeRange } from '../chart/granularity';
import { pickSeries, summarise, total, type Summary } from '../chart/rank';
import type { Series } from '../chart/series';
import { connection } from '../live/browser';
import type { Feed } from './useSeries';

const PACE_MS = 400;

export interface DrawnSeries {
  series: Series;
  summary: Summary;
}

export interface Picture {
  drawn: DrawnSeries[];
  /** Of all series, also those that are not drawn. */
  total: Summary;
}

/** A number that grows with the feed: at once when series come or go, else at most each `PACE_MS`. */
function useFeedVersion(feed: Feed): string {
  const { set, watch } = feed;
  const [version, setVersion] = useState('');
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let shape = -1;
    const read = () => {
      timer = undefined;
      shape = set.shape;
      setVersion(`${set.shape}/${set.revision}`);
    };
    read();
    const stop = watch(() => {
      if (set.shape !== shape) read();
      else timer ??= setTimeout(read, PACE_MS);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [set, watch]);
  return version;
}

export function useDrawnSeries(feed: Feed, range: TimeRange, shown: Aggregation): Picture {
  const { set } = feed;
  const version = useFeedVersion(feed);
  const shape = version.split('/')[0];
  const keys = useMemo(() => pickSeries(set.all(), shown), [set, shape, shown]);
  return useMemo(() => {
    const [lower, upper] = windowOf(range, connection.now());
    const summaries = new Map(set.all().map(({ key, points }) => [key, summarise(points, lower, upper, shown)]));
    const drawn = keys.flatMap((key) => {
      const series = set.get(key);
      const summary = summaries.get(key);
      return series && summary ? [{ series, summary }] : [];
    });
    return { drawn, total: total([...summaries.values()]) };
  }, [set, keys, version, range, shown]);
}
