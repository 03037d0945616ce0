// A real browser for the page's tests, and what every page must keep to: no error in the console,
// nothing against the policy, no request to anybody but its own agent, no script of a stranger.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(path.join(process.env.PAGE_MODULES, 'package.json'));
const { chromium } = require('playwright-core');
const axe = require.resolve('axe-core/axe.min.js');
const pictures = process.env.PAGE_PICTURES;
mkdirSync(pictures, { recursive: true });

export const PHONE = { width: 360, height: 740 };
export const DESK = { width: 1200, height: 860 };

let browser;
const faults = [];

export async function openBrowser() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

export async function closeBrowser() {
  await browser?.close();
}

/** Somebody's browser, with storage of its own. */
export async function person(options = {}) {
  const context = await browser.newContext({ viewport: DESK, colorScheme: 'light', locale: 'en-GB', ...options });
  context.setDefaultTimeout(30_000);
  return context;
}

/** Opens the page of an agent and watches over it. */
export async function visit(context, url) {
  const page = await context.newPage();
  page.on('console', (message) => {
    // A refusal by the API is the browser's to log and the page's to show.
    const refused = message.text().startsWith('Failed to load resource') && message.location().url.includes('/api/v1/');
    if (['error', 'warning'].includes(message.type()) && !refused) faults.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`exception: ${error.stack}`));
  page.on('dialog', (dialog) => { faults.push(`a native dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => {
    const to = new URL(request.url());
    if (to.protocol !== 'data:' && to.origin !== new URL(url).origin) faults.push(`a request to ${to.origin}`);
  });
  await page.addInitScript(() => document.addEventListener('securitypolicyviolation', (event) => {
    console.error(`against the policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
  }));
  await page.goto(url);
  return page;
}

/** Fails with whatever any page has done that it must not. */
export function assertInnocent() {
  assert.deepEqual(faults.splice(0), []);
}

export async function picture(page, name) {
  await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
}

/** No serious finding of axe, and nothing wider than the screen. */
export async function assertAccessible(page, what) {
  // The policy keeps scripts out of the page's own world, not out of the debugger's.
  const source = require('node:fs').readFileSync(axe, 'utf8');
  await page.evaluate(source);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ['violations'] }));
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  const found = serious.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`));
  assert.deepEqual(found, [], `axe, ${what}`);
  const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(wide <= screen, `${what}: ${wide} px wide on a screen of ${screen}`);
}
