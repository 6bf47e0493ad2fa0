/** The page's state, held by the URL: every change is a new address, and Back goes back. */
import { useCallback, useSyncExternalStore } from 'react';
import { readState, writeState, type PageState } from '../state/url';

const watchers = new Set<() => void>();
let search = window.location.search;
let state = readState(search);

function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/** One object for one address, as React asks. */
function current(): PageState {
  if (window.location.search !== search) {
    search = window.location.search;
    state = readState(search);
  }
  return state;
}

function notify(): void {
  for (const watcher of watchers) watcher();
}

window.addEventListener('popstate', notify);

export type UpdateState = (part: Partial<PageState>, mode?: 'push' | 'replace') => void;

export function useUrlState(): [PageState, UpdateState] {
  const value = useSyncExternalStore(watch, current);
  const update = useCallback<UpdateState>((part, mode = 'push') => {
    const next = writeState({ ...current(), ...part });
    if (next === window.location.search) return;
    if (mode === 'push') window.history.pushState(null, '', next);
    else window.history.replaceState(null, '', next);
    notify();
  }, []);
  return [value, update];
}
