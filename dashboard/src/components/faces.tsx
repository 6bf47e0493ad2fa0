/** The faces that a panel has besides its content: loading, empty, failed, stale and partial. */
import { Button, Loader } from '@mantine/core';
import type { ReactNode } from 'react';
import type { PartialAnswer, Problem } from '../api/types';
import { formatSpan } from '../chart/format';
import { useLink, useNow } from '../hooks/useLink';
import classes from './faces.module.css';
import { AlertIcon } from './icons';

export function LoadingFace({ label }: { label: string }) {
  return (
    <div className={classes['face']} role="status">
      <Loader size="sm" />
      <span className={classes['dim']}>{label}…</span>
    </div>
  );
}

export function EmptyFace({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className={classes['face']}>
      <strong>{title}</strong>
      <div className={classes['dim']}>{children}</div>
    </div>
  );
}

interface ErrorFaceProps {
  problem: Problem;
  onRetry?: (() => void) | undefined;
  retryLabel?: string;
}

export function ErrorFace({ problem, onRetry, retryLabel = 'Try again' }: ErrorFaceProps) {
  return (
    <div className={classes['error']} role="alert" data-testid="problem">
      <AlertIcon />
      <div className={classes['errorText']}>
        <strong>{problem.title}</strong>
        <span className={classes['detail']}>{problem.detail}</span>
        <span className={classes['code']}>
          {problem.code}
          {problem.status > 0 && ` · HTTP ${problem.status}`}
        </span>
      </div>
      {onRetry && (
        <Button size="compact-xs" variant="default" onClick={onRetry} data-testid="retry">
          {retryLabel}
        </Button>
      )}
    </div>
  );
}

/** For a panel that still shows an earlier answer: says that it is old, and why. */
export function StaleLine({ problem, onRetry }: { problem: Problem; onRetry: () => void }) {
  return (
    <div className={classes['staleLine']} role="status" title={problem.detail}>
      <span className={classes['stale']}>stale · {problem.title.toLowerCase()}</span>
      <Button size="compact-xs" variant="subtle" color="gray" onClick={onRetry}>Try again</Button>
    </div>
  );
}

/** Above an answer from memory alone: says that its older part is not there. */
export function PartialNote({ partial, children }: { partial: PartialAnswer; children: ReactNode }) {
  return (
    <div className={classes['partial']} role="status" data-testid="partial">
      <AlertIcon />
      <div className={classes['errorText']}>
        <strong>{children}</strong>
        <span className={classes['detail']}>{partial.missing}</span>
      </div>
    </div>
  );
}

const STALE_AFTER_MS = 6_000;

/** Says that what is shown is old, once nothing has been heard for a while. */
export function StaleNote() {
  const link = useLink();
  useNow(1000);
  const silentMs = link.heardAt === null ? 0 : Date.now() - link.heardAt;
  if (silentMs < STALE_AFTER_MS) return null;
  return (
    <span className={classes['stale']} role="status" data-testid="stale">
      stale · last heard {formatSpan(silentMs)} ago
    </span>
  );
}
