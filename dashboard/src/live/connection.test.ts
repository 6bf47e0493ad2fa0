import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Aggregation, LiveRequest, Problem, SeriesData } from '../api/types';
import { LiveConnection, POLL_INTERVAL_MS, SILENCE_MS, type LiveQuery, type SocketLike } from './connection';

class FakeSocket implements SocketLike {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  onerror: (() => void) | null = null;
  isClosed = false;
  readonly sent: LiveRequest[] = [];

  send(text: string): void {
    this.sent.push(JSON.parse(text) as LiveRequest);
  }

  close(): void {
    this.isClosed = true;
  }

  speak(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

const AGGREGATIONS: Aggregation[] = ['avg'];
const QUERY: LiveQuery = {
  metric: 'cpu', granularity: '1s', filter: ['host:a', 'zone:1'], groupBy: ['host'], range: '15m', aggregations: AGGREGATIONS,
};
const AWAY: Problem = { type: 'about:blank', title: 'away', status: 0, detail: '', code: 'unreachable' };
const ANSWER: SeriesData = { metric: 'cpu', granularity: '1s', aggregation: 'avg', epoch: 7, series: [] };

function setUp() {
  const sockets: FakeSocket[] = [];
  const poll = vi.fn<() => Promise<SeriesData>>().mockResolvedValue(ANSWER);
  const connection = new LiveConnection({
    openSocket: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    poll,
    problemOf: (error) => error as Problem,
    random: () => 0.5,
  });
  const listener = { onSnapshot: vi.fn(), onChange: vi.fn(), onError: vi.fn() };
  const newest = () => sockets.at(-1) ?? expect.fail('no socket was opened');
  return { connection, sockets, newest, poll, listener };
}

const snapshot = (id: string, epoch = 1) => ({
  type: 'snapshot', id, epoch, granularity: '1s', aggregations: AGGREGATIONS, series: [],
});
const subscribedId = (socket: FakeSocket) => socket.sent.find(({ type }) => type === 'subscribe')?.id ?? 'none';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('a subscription is sent on opening, and its frames arrive', () => {
  const { connection, newest, listener } = setUp();
  connection.subscribe(QUERY, listener);
  connection.start();
  newest().onopen?.();
  expect(newest().sent).toEqual([{
    type: 'subscribe', id: expect.any(String), metric: 'cpu', granularity: '1s', filter: 'host:a,zone:1',
    group_by: ['host'], range: '15m', aggregations: ['avg'], partial: true,
  }]);
  const id = subscribedId(newest());
  newest().speak({ type: 'change', id, epoch: 0, series: [] });
  expect(listener.onChange).not.toHaveBeenCalled();
  newest().speak(snapshot(id));
  newest().speak({ type: 'change', id, epoch: 2, series: [] });
  newest().speak({ type: 'error', id, code: 'unknown_metric', detail: 'no such metric' });
  expect(listener.onSnapshot).toHaveBeenCalledOnce();
  expect(listener.onChange).toHaveBeenCalledWith(expect.objectContaining({ epoch: 2, aggregations: ['avg'] }));
  expect(listener.onError).toHaveBeenCalledWith(expect.objectContaining({ code: 'unknown_metric' }));
  expect(connection.getStatus().state).toBe('live');
});

test('what a snapshot lacks reaches the listener, until a whole one comes', () => {
  const { connection, newest, listener } = setUp();
  connection.subscribe(QUERY, listener);
  connection.start();
  newest().onopen?.();
  const id = subscribedId(newest());
  const partial = { missing: 'history in ClickHouse up to epoch 5 is missing: it is away', epoch: 5 };
  newest().speak({ ...snapshot(id), partial });
  expect(listener.onSnapshot).toHaveBeenLastCalledWith(expect.objectContaining({ partial }));
  newest().speak(snapshot(id, 2));
  expect(listener.onSnapshot).toHaveBeenLastCalledWith(expect.not.objectContaining({ partial: expect.anything() }));
});

test('after a drop it polls, then subscribes anew under a new id and stops polling', async () => {
  const { connection, sockets, newest, poll, listener } = setUp();
  connection.subscribe(QUERY, listener);
  connection.start();
  newest().onopen?.();
  const oldId = subscribedId(newest());
  newest().speak(snapshot(oldId));
  newest().onclose?.();
  expect(connection.getStatus()).toMatchObject({ state: 'reconnecting', polling: true });
  await vi.advanceTimersByTimeAsync(100);
  expect(poll).toHaveBeenCalledTimes(1);
  expect(listener.onSnapshot).toHaveBeenLastCalledWith(expect.objectContaining({ epoch: 7 }));

  await vi.advanceTimersByTimeAsync(500);
  expect(sockets).toHaveLength(2);
  newest().onopen?.();
  const newId = subscribedId(newest());
  expect(newId).not.toBe(oldId);
  newest().speak(snapshot(oldId, 8));
  expect(listener.onSnapshot).not.toHaveBeenCalledWith(expect.objectContaining({ epoch: 8 }));
  newest().speak(snapshot(newId, 9));
  expect(listener.onSnapshot).toHaveBeenLastCalledWith(expect.objectContaining({ epoch: 9 }));
  await vi.advanceTimersByTimeAsync(POLL_INTERVAL_MS * 2);
  expect(poll).toHaveBeenCalledTimes(1);
  expect(connection.getStatus()).toMatchObject({ state: 'live', polling: false });
});

test('a silent socket counts as dead; heartbeats keep it alive', () => {
  const { connection, newest, sockets } = setUp();
  connection.start();
  newest().onopen?.();
  vi.advanceTimersByTime(SILENCE_MS - 100);
  newest().speak({ type: 'heartbeat', epoch: Date.now() * 1000, time: new Date().toISOString() });
  vi.advanceTimersByTime(SILENCE_MS - 100);
  expect(connection.getStatus().state).toBe('live');
  vi.advanceTimersByTime(200);
  expect(sockets[0]?.isClosed).toBe(true);
  expect(connection.getStatus().state).toBe('reconnecting');
});

test('when nothing answers for long, it is offline', async () => {
  const { connection, sockets, newest, poll, listener } = setUp();
  poll.mockRejectedValue(AWAY);
  connection.subscribe(QUERY, listener);
  connection.start();
  for (let round = 0; round < 4; round += 1) {
    newest().onclose?.();
    await vi.advanceTimersByTimeAsync(8_000);
  }
  newest().onclose?.();
  expect(connection.getStatus().state).toBe('offline');
  expect(listener.onError).not.toHaveBeenCalled();
  const attempts = sockets.length;
  poll.mockResolvedValue(ANSWER);
  await vi.advanceTimersByTimeAsync(POLL_INTERVAL_MS + 100);
  expect(connection.getStatus().state).toBe('reconnecting');
  expect(sockets, 'it tries at once when the server answers again').toHaveLength(attempts + 1);
});

test('a refusal while polling reaches the listener', async () => {
  const { connection, newest, poll, listener } = setUp();
  poll.mockRejectedValue({ ...AWAY, status: 404, code: 'unknown_metric' });
  connection.subscribe(QUERY, listener);
  connection.start();
  newest().onclose?.();
  await vi.advanceTimersByTimeAsync(100);
  expect(listener.onError).toHaveBeenCalledWith(expect.objectContaining({ code: 'unknown_metric' }));
});

test('lag is the heartbeat time minus its epoch, on the server clock', () => {
  const { connection, newest } = setUp();
  connection.start();
  newest().onopen?.();
  const server = Date.now() + 60_000;
  newest().speak({ type: 'heartbeat', epoch: (server - 120) * 1000, time: new Date(server).toISOString() });
  expect(connection.getStatus()).toMatchObject({ lagMs: 120, clockOffsetMs: 60_000 });
  expect(connection.now()).toBe(server);
});

test('leaving sends unsubscribe, and nothing arrives after', () => {
  const { connection, newest, listener } = setUp();
  connection.start();
  newest().onopen?.();
  const leave = connection.subscribe(QUERY, listener);
  const id = subscribedId(newest());
  leave();
  expect(newest().sent.at(-1)).toEqual({ type: 'unsubscribe', id });
  newest().speak(snapshot(id));
  expect(listener.onSnapshot).not.toHaveBeenCalled();
});

test('stopping closes the socket and every timer', () => {
  const { connection, newest } = setUp();
  connection.start();
  newest().onclose?.();
  connection.stop();
  expect(vi.getTimerCount()).toBe(0);
});
