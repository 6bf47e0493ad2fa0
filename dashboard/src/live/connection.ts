/**
 * The one owner of the live connection.
 *
 * ```text
 *            open                      first heartbeat or snapshot
 *  waiting ───────▶ connecting ───────────────────────────────────▶ live
 *     ▲                 │ close, error, silence                      │
 *     └─────────────────┴────────────────────────────────────────────┘
 *       meanwhile each subscription is polled over HTTP
 * ```
 *
 * Invariants:
 * 1. A listener always gets a snapshot before changes, and a snapshot replaces what it had. After a drop each
 *    subscription is made anew under a new id, so a late frame of an old one is never applied.
 * 2. At most one socket and one poll round are under way.
 * 3. Polling stops as soon as a socket is open, and its late answers are dropped.
 */
import type { Aggregation, LiveMessage, LiveRequest, PartialAnswer, Problem, SeriesData, WireSeries } from '../api/types';
import { backoffMs } from './backoff';

export type LinkState = 'connecting' | 'live' | 'reconnecting' | 'offline';

/** What the page shows about the connection. Times are of this browser's clock, in ms. */
export interface LinkStatus {
  state: LinkState;
  polling: boolean;
  /** How far the answers of the server were behind its own clock at its last sign of life. */
  lagMs: number | null;
  epoch: number | null;
  heardAt: number | null;
  /** Server clock minus browser clock; zero unless they differ visibly. */
  clockOffsetMs: number;
}

export interface LiveQuery {
  metric: string;
  granularity: string;
  filter: string[];
  groupBy: string[];
  range: string;
  aggregations: Aggregation[];
}

export interface Batch {
  epoch: number;
  aggregations: Aggregation[];
  series: WireSeries[];
  /** Of a snapshot that lacks history, since ClickHouse is away; a whole one follows when it is back. */
  partial?: PartialAnswer | null;
}

export interface LiveListener {
  onSnapshot(batch: Batch): void;
  onChange(batch: Batch): void;
  onError(problem: Problem): void;
}

export interface SocketLike {
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  onerror: (() => void) | null;
  send(text: string): void;
  close(): void;
}

export interface LiveDependencies {
  openSocket(): SocketLike;
  poll(query: LiveQuery, signal: AbortSignal): Promise<SeriesData>;
  problemOf(error: unknown): Problem;
  random?(): number;
}

interface Subscription {
  id: string;
  query: LiveQuery;
  listener: LiveListener;
  aggregations: Aggregation[];
  ready: boolean;
}

/** Silence after which an open socket counts as dead; the server speaks each second. */
export const SILENCE_MS = 5_000;
/** Pause between two poll rounds while the socket is away. */
export const POLL_INTERVAL_MS = 2_000;
/** Silence on every way after which repeated failures mean that the server is away. */
const OFFLINE_MS = 10_000;
/** A difference of clocks below this is taken for network delay. */
const CLOCK_TOLERANCE_MS = 750;

export class LiveConnection {
  private status: LinkStatus = {
    state: 'connecting', polling: false, lagMs: null, epoch: null, heardAt: null, clockOffsetMs: 0,
  };
  private readonly subscriptions = new Set<Subscription>();
  private readonly watchers = new Set<() => void>();
  private socket: SocketLike | null = null;
  private isOpen = false;
  private attempt = 0;
  private nextId = 1;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private silenceTimer: ReturnType<typeof setTimeout> | undefined;
  private pollTimer: ReturnType<typeof setTimeout> | undefined;
  private pollAbort: AbortController | null = null;

  constructor(private readonly dependencies: LiveDependencies) {}

  getStatus = (): LinkStatus => this.status;

  watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };

  /** The server's clock, as well as this browser can know it, in ms. */
  now = (): number => Date.now() + this.status.clockOffsetMs;

  start(): void {
    if (this.socket === null && this.retryTimer === undefined) this.connect();
  }

  stop(): void {
    clearTimeout(this.retryTimer);
    this.retryTimer = undefined;
    this.dropSocket();
    this.stopPolling();
  }

  /** Tries at once, for instance when the browser says that it is online again. */
  retryNow(): void {
    if (this.socket !== null) return;
    clearTimeout(this.retryTimer);
    this.retryTimer = undefined;
    this.connect();
  }

  subscribe(query: LiveQuery, listener: LiveListener): () => void {
    const subscription: Subscription = {
      id: this.freshId(), query, listener, aggregations: query.aggregations, ready: false,
    };
    this.subscriptions.add(subscription);
    if (this.isOpen) this.sendSubscribe(subscription);
    else if (this.status.polling) this.pollSoon();
    return () => {
      this.subscriptions.delete(subscription);
      if (this.isOpen) this.send({ type: 'unsubscribe', id: subscription.id });
    };
  }

  private freshId(): string {
    return `s${this.nextId++}`;
  }

  private connect(): void {
    this.retryTimer = undefined;
    let socket: SocketLike;
    try {
      socket = this.dependencies.openSocket();
    } catch {
      this.lost();
      return;
    }
    this.socket = socket;
    socket.onopen = () => this.opened(socket);
    socket.onmessage = (event) => socket === this.socket && this.received(event.data);
    socket.onclose = () => socket === this.socket && this.lost();
    socket.onerror = () => socket === this.socket && this.lost();
    this.expectSound();
  }

  private opened(socket: SocketLike): void {
    if (socket !== this.socket) return;
    this.isOpen = true;
    this.stopPolling();
    this.expectSound();
    for (const subscription of this.subscriptions) {
      subscription.id = this.freshId();
      subscription.ready = false;
      this.sendSubscribe(subscription);
    }
  }

  private lost(): void {
    this.dropSocket();
    this.attempt += 1;
    const silentMs = this.status.heardAt === null ? Infinity : Date.now() - this.status.heardAt;
    const isAway = this.status.state === 'offline' || (this.attempt > 2 && silentMs > OFFLINE_MS);
    this.update({ state: isAway ? 'offline' : 'reconnecting' });
    this.startPolling();
    clearTimeout(this.retryTimer);
    const pause = backoffMs(this.attempt - 1, this.dependencies.random ?? Math.random);
    this.retryTimer = setTimeout(() => this.connect(), pause);
  }

  private dropSocket(): void {
    clearTimeout(this.silenceTimer);
    const socket = this.socket;
    this.socket = null;
    this.isOpen = false;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close();
  }

  private expectSound(): void {
    clearTimeout(this.silenceTimer);
    this.silenceTimer = setTimeout(() => this.lost(), SILENCE_MS);
  }

  private send(request: LiveRequest): void {
    this.socket?.send(JSON.stringify(request));
  }

  private sendSubscribe({ id, query }: Subscription): void {
    this.send({
      type: 'subscribe',
      id,
      metric: query.metric,
      granularity: query.granularity,
      ...(query.filter.length > 0 && { filter: query.filter.join(',') }),
      ...(query.groupBy.length > 0 && { group_by: query.groupBy }),
      range: query.range,
      aggregations: query.aggregations,
      partial: true,
    });
  }

  private received(data: unknown): void {
    this.expectSound();
    if (typeof data !== 'string') return;
    const message = JSON.parse(data) as LiveMessage;
    this.attempt = 0;
    if (message.type === 'heartbeat') this.heard(message.epoch, message.time);
    else this.deliver(message);
    if (this.status.state !== 'live') this.update({ state: 'live', heardAt: Date.now() });
  }

  private deliver(message: Exclude<LiveMessage, { type: 'heartbeat' }>): void {
    for (const subscription of this.subscriptions) {
      if (subscription.id !== message.id) continue;
      if (message.type === 'snapshot') {
        subscription.ready = true;
        subscription.aggregations = message.aggregations;
        subscription.listener.onSnapshot(message);
      } else if (message.type === 'change') {
        if (subscription.ready) subscription.listener.onChange({ ...message, aggregations: subscription.aggregations });
      } else {
        subscription.listener.onError(problemOfFrame(message));
      }
    }
  }

  private heard(epoch: number, time: string | number): void {
    const serverMs = typeof time === 'number' ? time : Date.parse(time);
    const heardAt = Date.now();
    const offset = serverMs - heardAt;
    this.update({
      epoch,
      heardAt,
      lagMs: Math.max(0, serverMs - epoch / 1000),
      clockOffsetMs: Math.abs(offset) < CLOCK_TOLERANCE_MS ? 0 : offset,
    });
  }

  private startPolling(): void {
    if (this.status.polling) return;
    this.update({ polling: true });
    this.pollSoon();
  }

  private stopPolling(): void {
    clearTimeout(this.pollTimer);
    this.pollAbort?.abort();
    this.pollAbort = null;
    if (this.status.polling) this.update({ polling: false });
  }

  private pollSoon(): void {
    if (this.pollAbort !== null) return;
    clearTimeout(this.pollTimer);
    this.pollTimer = setTimeout(() => void this.pollRound(), 50);
  }

  private async pollRound(): Promise<void> {
    const abort = new AbortController();
    this.pollAbort = abort;
    for (const subscription of [...this.subscriptions]) {
      const isCurrent = () => !abort.signal.aborted && this.subscriptions.has(subscription);
      if (!isCurrent()) continue;
      try {
        const data = await this.dependencies.poll(subscription.query, abort.signal);
        if (!isCurrent()) continue;
        // The server is back: no need to sit out a long pause.
        if (this.status.state === 'offline') this.retryNow();
        this.update({ state: 'reconnecting', heardAt: Date.now(), epoch: data.epoch });
        subscription.listener.onSnapshot({ ...data, aggregations: subscription.query.aggregations });
      } catch (error) {
        if (isCurrent()) this.pollFailed(subscription, this.dependencies.problemOf(error));
      }
    }
    if (abort.signal.aborted) return;
    this.pollAbort = null;
    this.pollTimer = setTimeout(() => void this.pollRound(), POLL_INTERVAL_MS);
  }

  private pollFailed(subscription: Subscription, problem: Problem): void {
    if (problem.status === 0 || problem.status >= 500) this.update({ state: 'offline' });
    else subscription.listener.onError(problem);
  }

  private update(part: Partial<LinkStatus>): void {
    this.status = { ...this.status, ...part };
    for (const watcher of this.watchers) watcher();
  }
}

function problemOfFrame(frame: { code: string; detail: string }): Problem {
  return { type: 'about:blank', title: 'Subscription refused', status: 400, detail: frame.detail, code: frame.code };
}
