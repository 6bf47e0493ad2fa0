import { afterEach, expect, test, vi } from 'vitest';
import { ApiError, isWithoutHistory, parseProblem, runSql } from './client';

afterEach(() => vi.unstubAllGlobals());

test('a statement is asked whole, or for what memory has', async () => {
  const asked: unknown[] = [];
  vi.stubGlobal('fetch', (_path: string, init: RequestInit) => {
    asked.push(JSON.parse(String(init.body)));
    return Promise.resolve(new Response('{}'));
  });
  const { signal } = new AbortController();
  await runSql('SELECT 1', false, signal);
  await runSql('SELECT 1', true, signal);
  expect(asked).toEqual([
    { sql: 'SELECT 1', format: 'json', partial: false },
    { sql: 'SELECT 1', format: 'json', partial: true },
  ]);
});

test.each([
  ['history_unavailable', 503, true],
  ['history_timeout', 504, true],
  ['query_time_exceeded', 422, false],
  ['sql_invalid', 400, false],
])('memory can answer after %s: %s', async (code, status, can) => {
  const body = JSON.stringify({ type: 'about:blank', title: 'No', status, code, detail: 'why' });
  vi.stubGlobal('fetch', () => Promise.resolve(new Response(body, { status })));
  const failed: unknown = await runSql('SELECT 1', false, new AbortController().signal).catch((error: unknown) => error);
  expect(failed).toBeInstanceOf(ApiError);
  expect(isWithoutHistory((failed as ApiError).problem)).toBe(can);
  expect(isWithoutHistory(parseProblem(status, 'No', body))).toBe(can);
});
