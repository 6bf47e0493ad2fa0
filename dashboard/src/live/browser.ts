/** The page's single `LiveConnection`, wired to this browser's socket, HTTP and online events. */
import { readData, toProblem } from '../api/client';
import { LiveConnection, type SocketLike } from './connection';

function openSocket(): SocketLike {
  const url = new URL('/api/v1/live', window.location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return new WebSocket(url) as unknown as SocketLike;
}

export const connection = new LiveConnection({
  openSocket,
  problemOf: toProblem,
  poll: (query, signal) =>
    readData({ ...query, start: `now-${query.range}`, end: 'now' }, signal),
});

/** Opens the connection, and tries again at once when the browser comes back online or into view. */
export function startConnection(): void {
  connection.start();
  window.addEventListener('online', () => connection.retryNow());
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') connection.retryNow();
  });
}
