/** Queries to start from; some are about `metric`. */
import type { StreamDefinition } from '../api/types';

export interface Example {
  title: string;
  sql: string;
}

/** A text as an SQL literal. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

export function examplesFor(metric: string): Example[] {
  return [
    {
      title: 'Latest events',
      sql: 'SELECT ts, name, value, dimensions, source\nFROM metrics\nORDER BY ts DESC\nLIMIT 100',
    },
    {
      title: 'Busiest metrics, last hour',
      sql: 'SELECT name, sum("count") AS events, min("min") AS low, max("max") AS high\nFROM metrics_1m\nWHERE bucket >= now() - INTERVAL \'1 hour\'\nGROUP BY name\nORDER BY events DESC\nLIMIT 50',
    },
    {
      title: 'Minute averages of one metric',
      sql: `SELECT bucket, sum("sum") / sum("count") AS avg, min("min") AS min, max("max") AS max\nFROM metrics_1m\nWHERE name = ${literal(metric)} AND bucket >= now() - INTERVAL '1 hour'\nGROUP BY bucket\nORDER BY bucket`,
    },
    {
      title: 'By one dimension',
      sql: 'SELECT dimensions[\'host\'] AS host, sum("count") AS events, sum("sum") / sum("count") AS avg\nFROM metrics_1m\nWHERE bucket >= now() - INTERVAL \'15 minutes\'\nGROUP BY dimensions[\'host\']\nORDER BY avg DESC',
    },
    {
      title: 'Events a second, live and history together',
      sql: 'SELECT bucket, sum("count") AS events\nFROM metrics_1s\nWHERE bucket >= now() - INTERVAL \'1 minute\'\nGROUP BY bucket\nORDER BY bucket DESC',
    },
    {
      title: 'How much is stored',
      sql: 'SELECT count(*) AS events, count(DISTINCT name) AS metrics, min(ts) AS first, max(ts) AS last\nFROM metrics',
    },
  ];
}

const ROLLUP_COLUMNS = ['bucket', 'name', 'dimensions', 'count', 'sum', 'min', 'max', 'avg'];

/** Every table that SQL knows, with its columns: the streams and the rollups. */
export function tablesOf(streams: StreamDefinition[]): Record<string, string[]> {
  const tables: Record<string, string[]> = { metrics: ['ts', 'name', 'value', 'dimensions', 'source'] };
  for (const rollup of ['metrics_1s', 'metrics_1m', 'metrics_1h', 'metrics_1d']) tables[rollup] = ROLLUP_COLUMNS;
  for (const stream of streams) {
    const names = stream.columns.map(({ name }) => name);
    tables[stream.name] = names.includes(stream.time_column) ? names : [stream.time_column, ...names];
  }
  return tables;
}
