// What is decided before a download begins, and for all of them.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';

import { PHONE, assertAccessible, assertInnocent, closeBrowser, openBrowser, person, picture, visit } from './browser.mjs';
import { cleanUp, folder, serve, share } from './haul.mjs';
import { add, card, downloads, files, fill, says } from './steps.mjs';

const REEL = { 'A001/clip 1.mov': 600_000, 'A001/clip 2.mov': 400_000, 'B002/clip 3.mov': 4_000, 'notes.txt': 120 };

before(openBrowser);
afterEach(assertInnocent);
after(async () => {
  await closeBrowser();
  await cleanUp();
});

test('files are chosen by their folder, by a search, and one by one', async () => {
  const { link, line } = await share(fill(folder(), REEL), ['--name', 'Dailies']);
  const agent = await serve([line]);
  const page = await visit(await person(), agent.url);
  const target = path.join(folder(), 'in');
  await page.getByText('Password and files').click();
  await page.getByRole('button', { name: 'Choose files…' }).click();
  await page.getByText('Please paste a link.').waitFor();
  await page.getByLabel('Link', { exact: true }).fill(link);
  await page.getByRole('button', { name: 'Choose files…' }).click();
  const pick = page.getByRole('dialog', { name: 'Choose files' });
  await pick.getByText('4 of 4 files, 1 MB').waitFor();
  await pick.getByRole('button', { name: 'Files in A001' }).click();
  await assertAccessible(page, 'the choice of files');
  await picture(page, 'choose-desk-light');
  await pick.getByRole('checkbox', { name: 'clip 2.mov' }).uncheck();
  assert.ok(await pick.getByRole('checkbox', { name: 'A001' }).evaluate((box) => box.indeterminate));
  await pick.getByRole('checkbox', { name: 'B002' }).uncheck();
  await pick.getByText('2 of 4 files, 600 kB').waitFor();
  await pick.getByLabel('Search the files').fill('NOTES');
  await pick.getByRole('checkbox', { name: 'notes.txt' }).uncheck();
  await pick.getByLabel('Search the files').fill('');
  assert.equal(await pick.getByRole('listitem').count(), 3, 'two folders and a file');
  await pick.getByRole('button', { name: 'Use this choice' }).click();
  await page.getByText('1 of 4 files, 600 kB, will be downloaded.').waitFor();
  assert.deepEqual(await downloads(agent.url), [], 'nothing is downloaded before it is asked for');
  await add(page, link, target);
  await says(page, 'Dailies', 'Complete');
  assert.deepEqual(files(target), { 'A001/clip 1.mov': 600_000 });
  await page.getByText('All files will be downloaded.').waitFor();
});

test('nothing chosen is said to be nothing', async () => {
  const { link, line } = await share(fill(folder(), { 'a.txt': 10 }), ['--name', 'Small']);
  const agent = await serve([line]);
  const page = await visit(await person({ viewport: PHONE, colorScheme: 'dark' }), agent.url);
  await page.getByLabel('Link', { exact: true }).fill(link);
  await page.getByText('Password and files').click();
  await page.getByRole('button', { name: 'Choose files…' }).click();
  await page.getByRole('checkbox', { name: 'a.txt' }).uncheck();
  await picture(page, 'choose-phone-dark');
  await page.getByRole('button', { name: 'Use this choice' }).click();
  await page.getByText('Please choose a file at least.').waitFor();
});

test('the speed of all is limited from the page', async () => {
  const agent = await serve([]);
  const page = await visit(await person(), agent.url);
  const settings = page.getByRole('dialog', { name: 'Settings' });
  const open = () => page.getByRole('button', { name: 'Settings' }).click();
  await open();
  await assertAccessible(page, 'the settings');
  await picture(page, 'settings-desk-light');
  await settings.getByLabel(/Speed limit/).fill('much');
  await settings.getByRole('button', { name: 'Save' }).click();
  await settings.getByText('The limit is a number such as 2.5').waitFor();
  await settings.getByLabel(/Speed limit/).fill('2,5');
  await settings.getByLabel(/Connections/).fill('4');
  await settings.getByLabel(/List of checksums/).selectOption('ASC Media Hash List');
  await settings.getByLabel(/Verify complete/).fill('0');
  await settings.getByRole('button', { name: 'Save' }).click();
  await settings.getByText('Days are a whole number').waitFor();
  await settings.getByLabel(/Verify complete/).fill('30');
  await settings.getByRole('button', { name: 'Save' }).click();
  await page.locator('#list-msg').getByText('All downloads together are held to 2.5 MB/s, and 4 connections at the most.').waitFor();
  const now = await (await fetch(`${agent.url}/api/v1/settings`)).json();
  assert.equal(now.rate_limit, 2_500_000);
  assert.equal(now.workers, 4);
  assert.equal(now.manifest, 'ascmhl');
  assert.equal(now.verify_every_days, 30);
  // Under a schedule it is the limit in force that is told, and only what was changed is set.
  const week = { days: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'], from: '00:00', to: '24:00', utc_offset: '+00:00', rate_limit: 1_000_000 };
  const set = (fields) => fetch(`${agent.url}/api/v1/settings`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(fields) });
  await set({ schedule: [week] });
  await open();
  await settings.getByLabel(/Connections/).fill('5');
  await settings.getByRole('button', { name: 'Save' }).click();
  await page.locator('#list-msg').getByText(/held to 1(.0+)?\sMB\/s now, by the week.s schedule, and 5 connections/).waitFor();
  await set({ schedule: [] });
  await open();
  await settings.getByLabel(/Connections/).fill('4');
  await settings.getByRole('button', { name: 'Save' }).click();
  await page.locator('#list-msg').getByText(/2.5\sMB\/s, and 4 connections/).waitFor();
  await open();
  assert.equal(await settings.getByLabel(/Speed limit/).inputValue(), '2.5');
  await settings.getByLabel(/Speed limit/).fill('');
  await settings.getByRole('button', { name: 'Save' }).click();
  await page.locator('#list-msg').getByText('There is no speed limit, and 4 connections at the most.').waitFor();
});

test('several links at once, all paused and all resumed', async () => {
  const one = await share(fill(folder(), { 'one.bin': 30_000_000 }), ['--name', 'One']);
  const two = await share(fill(folder(), { 'two.bin': 30_000_000 }), ['--name', 'Two']);
  const agent = await serve([one.line, two.line]);
  one.line.rate = two.line.rate = 1_000_000;
  const page = await visit(await person(), agent.url);
  await add(page, one.link + two.link, path.join(folder(), 'in'));
  await says(page, 'One', 'Downloading');
  await says(page, 'Two', 'Downloading');
  await says(page, 'Two', /free on its disk$/);
  await page.getByRole('button', { name: 'Pause all' }).click();
  await page.locator('#list-msg').getByText('2 downloads paused.').waitFor();
  await says(page, 'One', 'Paused');
  one.line.rate = two.line.rate = Infinity;
  await page.getByRole('button', { name: 'Resume all' }).click();
  await page.locator('#list-msg').getByText('2 downloads resumed.').waitFor();
  await says(page, 'One', 'Complete');
  await says(page, 'Two', 'Complete');
  assert.equal(await card(page, 'One').getByRole('button', { name: /^Try now/ }).count(), 0);
});

test('another limit is drawn on the week', async () => {
  const agent = await serve([]);
  const page = await visit(await person(), agent.url);
  const settings = page.getByRole('dialog', { name: 'Settings' });
  const schedule = async () => (await (await fetch(`${agent.url}/api/v1/settings`)).json()).schedule;
  const open = () => page.getByRole('button', { name: 'Settings' }).click();
  await open();
  await settings.getByText('Another limit in some hours').click();
  await settings.getByLabel(/Limit in the marked hours/).fill('1,5');
  const cell = (name) => settings.getByRole('gridcell', { name });
  await cell('Mon 08:00').hover();
  await page.mouse.down();
  for (const hour of ['09:00', '10:00', '11:00']) await cell(`Mon ${hour}`).hover();
  await page.mouse.up();
  // By keyboard.
  await cell('Mon 00:00').focus();
  for (const key of ['ArrowDown', 'ArrowRight', ' ']) await page.keyboard.press(key);
  await assertAccessible(page, 'the week');
  await picture(page, 'week-desk-light');
  await settings.getByRole('button', { name: 'Save' }).click();
  await settings.waitFor({ state: 'hidden' });
  const set = await schedule();
  assert.deepEqual(set.map(({ days, from, to, rate_limit }) => [days[0], from, to, rate_limit]), [
    ['mon', '08:00', '12:00', 1_500_000],
    ['tue', '01:00', '02:00', 1_500_000],
  ]);
  assert.match(set[0].utc_offset, /^[+-]\d\d:\d\d$/);
  await open();
  assert.equal(await settings.getByLabel(/Limit in the marked hours/).inputValue(), '1.5');
  assert.equal(await settings.getByRole('gridcell', { selected: true }).count(), 5);
  // Nothing drawn, nothing set.
  await settings.getByRole('button', { name: 'Save' }).click();
  await settings.waitFor({ state: 'hidden' });
  assert.deepEqual(await schedule(), set);
  const night = [{ days: ['fri'], from: '22:30', to: '06:00', utc_offset: '+00:00', rate_limit: null }];
  await fetch(`${agent.url}/api/v1/settings`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ schedule: night }) });
  await open();
  await settings.getByText('The schedule is one that this page cannot show.').waitFor();
  await settings.getByRole('button', { name: 'Save' }).click();
  await settings.waitFor({ state: 'hidden' });
  assert.deepEqual(await schedule(), night);
});
