/** Whether the page is live, and how far it lags behind the server's clock. */
import { Tooltip } from '@mantine/core';
import { formatSpan } from '../chart/format';
import { useLink, useNow } from '../hooks/useLink';
import type { LinkState } from '../live/connection';
import classes from './Header.module.css';

const FACES: Record<LinkState, { label: string; colour: string }> = {
  connecting: { label: 'Connecting', colour: 'var(--sg-warn)' },
  live: { label: 'Live', colour: 'var(--sg-good)' },
  reconnecting: { label: 'Reconnecting', colour: 'var(--sg-warn)' },
  offline: { label: 'Offline', colour: 'var(--sg-bad)' },
};

export function LinkBadge() {
  const link = useLink();
  useNow(1000);
  const { label, colour } = FACES[link.state];
  const silentMs = link.heardAt === null ? null : Date.now() - link.heardAt;
  const isLate = silentMs !== null && silentMs > 2_500;
  const detail = [
    link.polling && link.state === 'reconnecting' ? 'the socket is away; asking over HTTP each two seconds' : null,
    silentMs === null ? 'nothing heard yet' : `last heard ${formatSpan(silentMs)} ago`,
    link.epoch === null ? null : `epoch ${link.epoch}`,
  ];
  return (
    <Tooltip label={detail.filter(Boolean).join(' · ')} multiline maw={320}>
      <span
        className={classes['link']} role="status" tabIndex={0} data-testid="link" data-state={link.state}
        style={{ ['--dot' as string]: colour }}
      >
        <span className={classes['dot']} data-live={link.state === 'live' || undefined} />
        {label}
        {link.state === 'live' && link.lagMs !== null && (
          <span className={classes['figure']} data-testid="lag">
            {isLate ? `silent ${formatSpan(silentMs)}` : `${formatSpan(link.lagMs)} lag`}
          </span>
        )}
      </span>
    </Tooltip>
  );
}
