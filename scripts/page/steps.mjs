// What a user does with the page, in the words that the page uses.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Fills a folder: `{"path": size}`. */
export function fill(dir, files) {
  for (const [name, size] of Object.entries(files)) {
    const file = path.join(dir, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, Buffer.alloc(size, name));
  }
  return dir;
}

/** The files below a folder, with their sizes. */
export function files(dir) {
  const found = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(found.map((entry) => {
    const file = path.join(entry.parentPath ?? entry.path, entry.name);
    return [path.relative(dir, file), statSync(file).size];
  }).sort());
}

export async function add(page, link, folder, password) {
  await page.getByLabel('Link', { exact: true }).fill(link);
  await page.getByLabel('Save in folder').fill(folder);
  if (password !== undefined) {
    const field = page.getByLabel('Password of the link');
    if (!await field.isVisible()) await page.getByText('Password and files').click();
    await field.fill(password);
  }
  await page.getByRole('button', { name: 'Download', exact: true }).click();
}

/** The card of a download. */
export function card(page, name) {
  return page.getByRole('listitem').filter({ has: page.getByRole('heading', { level: 3, name, exact: true }) });
}

/** A button of a card; its accessible name begins with its word and ends with the download's. */
export function button(page, name, word) {
  return card(page, name).getByRole('button', { name: `${word} ${name}`, exact: true });
}

/** Waits until a card says so. */
export async function says(page, name, text) {
  await card(page, name).locator('.facts, .msg').getByText(text).first().waitFor();
}

/** The part that has arrived, 0 to 1, as the card's bar shows it. */
export async function progress(page, name) {
  return card(page, name).getByRole('progressbar').evaluate((bar) => bar.position);
}

export async function moves(page, name) {
  const handle = await card(page, name).getByRole('progressbar').elementHandle();
  await page.waitForFunction((bar) => bar.position > 0.02 && bar.position < 1, handle);
}

/** What the agent itself says of its downloads. */
export async function downloads(url) {
  return (await fetch(`${url}/api/v1/downloads`)).json();
}

export async function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    const names = element.getAttribute('aria-labelledby')?.split(' ').map((id) => document.getElementById(id).textContent);
    return names?.join(' ') ?? element.labels?.[0]?.innerText ?? element.textContent;
  });
}

/** Presses Tab until the focus is there, as somebody without a mouse does. */
export async function tabTo(page, name) {
  for (let pressed = 0; pressed < 40; pressed++) {
    await page.keyboard.press('Tab');
    if ((await focused(page)).trim() === name) return;
  }
  assert.fail(`no way by Tab to ${name}`);
}
