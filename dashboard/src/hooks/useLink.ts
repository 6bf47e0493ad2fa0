/** The state of the live connection, and a clock for ages that grow by themselves. */
import { useEffect, useState, useSyncExternalStore } from 'react';
import { connection } from '../live/browser';
import type { LinkStatus } from '../live/connection';

export function useLink(): LinkStatus {
  return useSyncExternalStore(connection.watch, connection.getStatus);
}

/** Renders anew each `intervalMs` and returns the server's time. */
export function useNow(intervalMs: number): number {
  const [now, setNow] = useState(connection.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(connection.now()), intervalMs);
    return () => clearInterval(timer);
  }, [intervalMs]);
  return now;
}
