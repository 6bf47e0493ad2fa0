/** The last queries of this browser, newest first, without repeats. */

const KEY = 'streamgauge.sql.history';
export const HISTORY_MAX = 50;

export function remember(history: string[], sql: string): string[] {
  const text = sql.trim();
  if (text === '') return history;
  return [text, ...history.filter((one) => one !== text)].slice(0, HISTORY_MAX);
}

export function loadHistory(): string[] {
  try {
    const stored: unknown = JSON.parse(window.localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter((one) => typeof one === 'string') : [];
  } catch {
    return [];
  }
}

/** Keeps the history; a browser that refuses storage only forgets it. */
export function saveHistory(history: string[]): void {
  try {
    window.localStorage.setItem(KEY, JSON.stringify(history));
  } catch {
    return;
  }
}
