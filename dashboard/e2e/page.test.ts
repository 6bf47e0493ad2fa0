/**
 * Drives the page of a running program in a real browser.
 *
 * - `STREAMGAUGE_URL`: where the program listens; by default `http://127.0.0.1:8080`.
 * - `STREAMGAUGE_BROWSER`: the browser's program; by default `/usr/bin/chromium`.
 * - `STREAMGAUGE_SCREENSHOTS`: a folder for pictures of some states; without it, none are made.
 * - `STREAMGAUGE_RESTART`: a shell command that restarts the program; without it, that step is left out.
 */
import { execSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type BrowserContext, type Page, type WebSocketRoute } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';

const SERVER = process.env['STREAMGAUGE_URL'] ?? 'http://127.0.0.1:8080';
const BROWSER = process.env['STREAMGAUGE_BROWSER'] ?? '/usr/bin/chromium';
const RESTART = process.env['STREAMGAUGE_RESTART'];
const SCREENSHOTS = process.env['STREAMGAUGE_SCREENSHOTS'];
const VISIBLE_WITHIN_MS = 1_000;
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

interface Event {
  name: string;
  timestamp: string;
  value: number;
  dimensions?: Record<string, string>;
}

const run = `e2e.${Date.now().toString(36)}`;
const HOSTS = ['web-1', 'web-2', 'web-10'];
const profile = mkdtempSync(join(tmpdir(), 'streamgauge-browser-'));
let context: BrowserContext;
let page: Page;
let faults: string[] = [];

async function post(events: Event[]): Promise<void> {
  const response = await fetch(`${SERVER}/api/v1/metrics`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(events),
  });
  const answer = (await response.json()) as { accepted: number };
  expect(answer.accepted, 'events accepted').toBe(events.length);
}

/** Twenty events of each host, fifteen seconds apart, up to a minute ago. */
function past(name: string): Event[] {
  return HOSTS.flatMap((host, at) =>
    Array.from({ length: 20 }, (_, step) => ({
      name,
      timestamp: new Date(Date.now() - 60_000 - step * 15_000).toISOString(),
      value: 100 * (at + 1) + step,
      dimensions: { host, zone: at === 0 ? 'eu' : 'us' },
    })));
}

const chart = () => page.getByTestId('chart');
const chartData = async (name: string) => (await chart().getAttribute(`data-${name}`)) ?? '';

/** Waits until the chart's attribute `name` reads `value`; checked at each frame of the page. */
async function untilChart(name: string, value: string, timeout = 10_000): Promise<void> {
  await page.waitForFunction(
    ([attribute, wanted]) => document.querySelector('[data-testid=chart]')?.getAttribute(`data-${attribute}`) === wanted,
    [name, value],
    { polling: 'raf', timeout },
  );
}

/** Waits for the beginning of a second, so that the next event is alone in its bucket. */
async function nextSecond(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 1_050 - (Date.now() % 1_000)));
}

/** Posts one event and returns how long it took until the chart drew it, from the first byte posted. */
async function drawnAfter(name: string, value: number, timeout?: number): Promise<number> {
  await nextSecond();
  const began = performance.now();
  await post([{ name, timestamp: new Date().toISOString(), value, dimensions: { host: 'web-1', zone: 'eu' } }]);
  await untilChart('latest-value', String(value), timeout);
  return performance.now() - began;
}

/** How many pixels of the chart have the colour of a single line in the light theme. */
function paintedPixels(): Promise<number> {
  return chart().locator('canvas').evaluate((canvas: HTMLCanvasElement) => {
    const pixels = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
    let painted = 0;
    for (let at = 0; at < pixels.length; at += 4) {
      const [red = 0, green = 0, blue = 0, alpha = 0] = [pixels[at], pixels[at + 1], pixels[at + 2], pixels[at + 3]];
      const distance = Math.abs(red - 13) + Math.abs(green - 148) + Math.abs(blue - 136);
      if (alpha > 200 && distance < 30) painted += 1;
    }
    return painted;
  });
}

async function screenshot(name: string): Promise<void> {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

async function expectNoSidewaysScroll(): Promise<void> {
  const [content, view] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  expect(content, 'width of the content').toBeLessThanOrEqual(view ?? 0);
}

beforeAll(async () => {
  context = await chromium.launchPersistentContext(profile, {
    executablePath: BROWSER, args: FLAGS, viewport: { width: 1280, height: 800 },
  });
});

afterAll(async () => {
  await context?.close();
  rmSync(profile, { recursive: true, force: true });
});

beforeEach(async () => {
  faults = [];
  page = await context.newPage();
  page.on('pageerror', (error) => faults.push(error.message));
});

afterEach(async () => {
  await page.close();
  expect(faults, 'errors thrown in the page').toEqual([]);
});

test('the chart draws each event within a second of its ingest', async () => {
  const name = `${run}.live`;
  await post(past(name));
  await page.goto(`${SERVER}/?metric=${name}&granularity=1s`);
  await untilChart('points', '20');
  await page.locator('[data-testid=link][data-state=live]').waitFor();
  const delays: number[] = [];
  for (const value of [501.5, 502.5, 503.5, 504.5, 505.5]) delays.push(await drawnAfter(name, value));
  console.log(`drawn after ${delays.map((ms) => `${ms.toFixed(0)} ms`).join(', ')}`);
  expect(Math.max(...delays)).toBeLessThan(VISIBLE_WITHIN_MS);
  expect(Date.parse(await chartData('latest-time')) % 1_000).toBe(0);
  await page.getByTestId('latest').getByText('505.5').waitFor({ state: 'attached' });
});

test('the line is really painted', async () => {
  const name = `${run}.painted`;
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto(`${SERVER}/?metric=${name}&granularity=1s`);
  await page.locator('[data-testid=link][data-state=live]').waitFor();
  expect(await paintedPixels()).toBe(0);
  await post(past(name));
  await page.reload();
  await untilChart('points', '20');
  await expect.poll(paintedPixels).toBeGreaterThan(200);
});

test('a metric is found by prefix, and the URL holds what is shown', async () => {
  const name = `${run}.search`;
  await post(past(name));
  await page.goto(SERVER);
  await page.getByTestId('metric-search').fill(name.slice(0, -2));
  await page.getByTestId('metric').filter({ hasText: name }).click();
  await page.getByTestId('range').getByText('1 h', { exact: true }).click();
  await untilChart('metric', name);
  expect(new URL(page.url()).searchParams.get('metric')).toBe(name);
  expect(new URL(page.url()).searchParams.get('range')).toBe('1h');
  await page.reload();
  await page.getByTestId('title').getByText(name).waitFor();
  await page.goBack();
  await page.waitForFunction(() => !window.location.search.includes('range=1h'));
});

test('grouping by a dimension draws a line a value, and a click drills down', async () => {
  const name = `${run}.group`;
  await post(past(name));
  await page.goto(`${SERVER}/?metric=${name}`);
  await page.getByTestId('group-by-host').click();
  await untilChart('series', '3');
  expect(await page.getByTestId('legend-value').allInnerTexts()).toEqual(HOSTS);
  await page.getByTestId('legend-value').filter({ hasText: 'web-10' }).click();
  await untilChart('series', '1');
  await page.getByTestId('chip').filter({ hasText: 'web-10' }).waitFor();
  await expect.poll(() => page.getByTestId('figure-minimum').innerText()).toBe('300');
  await page.getByRole('button', { name: 'Remove host web-10' }).click();
  await expect.poll(() => page.getByTestId('figure-minimum').innerText()).toBe('100');
  expect(page.url()).not.toContain('filter');
});

test('a fixed range shows what lies in it', async () => {
  const name = `${run}.fixed`;
  await post(past(name));
  const from = new Date(Date.now() - 3_600_000).toISOString();
  const to = new Date(Date.now() - 30_000).toISOString();
  await page.goto(`${SERVER}/?metric=${name}&from=${from}&to=${to}&granularity=1m`);
  await expect.poll(() => page.getByTestId('figure-events').innerText()).toBe('60');
});

test('the SQL box answers, and says what is wrong', async () => {
  const name = `${run}.sql`;
  await post(past(name));
  await page.goto(`${SERVER}/?tab=sql`);
  const editor = page.locator('.cm-content');
  await editor.fill(`SELECT count(*) AS events, max(value) AS high FROM metrics WHERE name = '${name}'`);
  await page.keyboard.press('Control+Enter');
  const cells = page.getByTestId('result').locator('tbody td');
  await expect.poll(() => cells.allInnerTexts(), { timeout: 10_000 }).toHaveLength(2);
  expect((await cells.allInnerTexts()).map(Number)).toEqual([60, 319]);
  expect(Number(await page.getByTestId('epoch').innerText())).toBeGreaterThan(1e15);
  await editor.fill('SELECT nothing FROM nowhere_at_all');
  await page.getByTestId('sql-run').click();
  await page.getByTestId('problem').getByText('nowhere_at_all').waitFor();
});

test('the SQL box asks whole, and for what memory has when told to', async () => {
  const name = `${run}.memory`;
  await post(past(name));
  const asked: boolean[] = [];
  const missing = 'history in ClickHouse up to epoch 5 is missing: it is away';
  await page.route('**/api/v1/sql', async (route) => {
    const { partial } = route.request().postDataJSON() as { partial: boolean };
    asked.push(partial);
    if (partial) {
      const response = await route.fetch();
      const answer = (await response.json()) as object;
      return route.fulfill({ response, json: { ...answer, partial: { missing, epoch: 5 } } });
    }
    const problem = {
      type: 'about:blank', title: 'Service Unavailable', status: 503, code: 'history_unavailable',
      detail: 'history in ClickHouse cannot be read: it is away; ask again later, or ask for what memory has',
    };
    return route.fulfill({ status: 503, contentType: 'application/problem+json', json: problem });
  });
  await page.goto(`${SERVER}/?tab=sql`);
  await page.locator('.cm-content').fill(`SELECT count(*) AS events FROM metrics WHERE name = '${name}'`);
  await page.getByTestId('sql-run').click();
  await page.getByTestId('problem').getByText('history_unavailable').waitFor();
  await screenshot('sql-without-history');
  expect(asked).toEqual([false]);
  await page.getByRole('button', { name: 'Answer from memory alone' }).click();
  await page.getByTestId('partial').getByText(missing).waitFor();
  await expect.poll(() => page.getByTestId('result').locator('tbody td').allInnerTexts()).toEqual(['60']);
  await screenshot('sql-from-memory');
  expect(await page.getByTestId('problem').count()).toBe(0);
  // The next statement is asked whole again; what fails for another reason offers nothing.
  await page.unroute('**/api/v1/sql');
  await page.locator('.cm-content').fill('SELECT nothing');
  await page.getByTestId('sql-run').click();
  await page.getByTestId('problem').getByText('sql_invalid').waitFor();
  expect(await page.getByRole('button', { name: 'Answer from memory alone' }).count()).toBe(0);
});

test('a phone shows everything without scrolling sideways', async () => {
  const name = `${run}.phone`;
  await post(past(name));
  await page.setViewportSize({ width: 360, height: 740 });
  await page.goto(`${SERVER}/?metric=${name}&group=host`);
  await untilChart('series', '3');
  await expectNoSidewaysScroll();
  await page.getByTestId('metric-picker').click();
  await page.getByTestId('metric').first().waitFor();
  await expectNoSidewaysScroll();
  await page.goto(`${SERVER}/?tab=sql`);
  await page.locator('.cm-content').fill('SELECT * FROM metrics LIMIT 5');
  await page.getByTestId('sql-run').click();
  await page.getByTestId('result').waitFor();
  await expectNoSidewaysScroll();
});

test('without the socket it polls, and it returns to the socket', async () => {
  const name = `${run}.fallback`;
  await post(past(name));
  let isBlocked = true;
  const sockets: WebSocketRoute[] = [];
  await page.routeWebSocket('**/api/v1/live', (socket) => {
    sockets.push(socket);
    if (isBlocked) void socket.close();
    else socket.connectToServer();
  });
  await page.goto(`${SERVER}/?metric=${name}&granularity=1s`);
  await page.locator('[data-testid=link][data-state=reconnecting]').waitFor();
  await drawnAfter(name, 601.5);
  isBlocked = false;
  await page.locator('[data-testid=link][data-state=live]').waitFor({ timeout: 25_000 });
  await drawnAfter(name, 602.5);
  await sockets.at(-1)?.close();
  await drawnAfter(name, 603.5);
  await page.locator('[data-testid=link][data-state=live]').waitFor();
});

test.skipIf(!RESTART)('it survives a restart of the program', async () => {
  const name = `${run}.restart`;
  await post(past(name));
  await page.goto(`${SERVER}/?metric=${name}&granularity=1s`);
  await untilChart('points', '20');
  execSync(RESTART ?? '', { stdio: 'inherit', timeout: 120_000 });
  await page.locator('[data-testid=link][data-state=live]').waitFor({ timeout: 60_000 });
  await untilChart('points', '20');
  await drawnAfter(name, 701.5);
}, 240_000);
