/** Events a second, and on wide screens all events so far, from the server's status. */
import { Tooltip } from '@mantine/core';
import { formatCount, formatNumber } from '../chart/format';
import { useStatus } from '../hooks/useServer';
import classes from './Header.module.css';

export function Throughput() {
  const { data, problem } = useStatus();
  if (!data || problem) return null;
  const { clickhouse } = data;
  const detail = `${formatCount(data.events_total)} events in all · ClickHouse ${clickhouse.version ?? ''} `
    + `(${clickhouse.mode}) ${clickhouse.healthy ? 'healthy' : 'away'} · Streamgauge ${data.version}`;
  return (
    <Tooltip label={detail} multiline maw={320}>
      <span className={`${classes['figure']} ${classes['wide']}`} tabIndex={0} data-testid="throughput">
        {!clickhouse.healthy && <span style={{ color: 'var(--sg-warn)' }}>ClickHouse away · </span>}
        <b>{formatNumber(Math.round(data.events_per_second))}</b> events/s
      </span>
    </Tooltip>
  );
}
