// The whole life of a download, as somebody sees it who uses the page.

import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';

import { DESK, PHONE, assertAccessible, assertInnocent, closeBrowser, openBrowser, person, picture, visit } from './browser.mjs';
import { cleanUp, folder, serve, share } from './haul.mjs';
import { add, button, card, downloads, files, fill, focused, moves, progress, says, tabTo } from './steps.mjs';

const REEL = { 'A001/clip 1.mov': 6_000_000, 'A001/clip 2.mov': 6_000_000, 'B002/clip 3.mov': 4_000_000, 'notes.txt': 120, 'empty': 0 };

before(openBrowser);
afterEach(assertInnocent);
after(async () => {
  await closeBrowser();
  await cleanUp();
});

test('from a wrong password to files that stay', async () => {
  const { link, line } = await share(fill(folder(), REEL), ['--name', 'Dailies 14', '--password', 'open sesame']);
  const agent = await serve([line]);
  const page = await visit(await person(), agent.url);
  const target = path.join(folder(), 'in');
  await page.getByText('No downloads yet.').waitFor();
  await picture(page, 'empty-desk-light');

  await page.getByRole('button', { name: 'Download', exact: true }).click();
  await page.getByText('Please paste a link.').waitFor();
  await add(page, link, target);
  await page.getByRole('alert').filter({ hasText: 'This link needs a password' }).waitFor();
  assert.equal(await focused(page), 'Password of the link', 'the field to be mended has the focus');
  await add(page, link, target, 'wrong');
  await page.getByRole('alert').filter({ hasText: /password is wrong/ }).waitFor();
  await assertAccessible(page, 'a refused link');
  await picture(page, 'refused-desk-light');
  assert.deepEqual(await downloads(agent.url), []);

  line.rate = 1_500_000;
  await add(page, link, target, 'open sesame');
  await moves(page, 'Dailies 14');
  await says(page, 'Dailies 14', /[\d.]+\s[kM]B\/s/);
  await says(page, 'Dailies 14', /left$/);
  await says(page, 'Dailies 14', /^\d of 5 files$/);
  await button(page, 'Dailies 14', 'Files').click();
  await card(page, 'Dailies 14').getByRole('row', { name: /A001\/clip 1\.mov 6\sMB/ }).waitFor();
  await assertAccessible(page, 'a transfer with its files');
  await picture(page, 'files-desk-light');

  await button(page, 'Dailies 14', 'Pause').click();
  await says(page, 'Dailies 14', 'Paused');
  assert.equal((await downloads(agent.url))[0].state, 'paused');
  assert.equal(await focused(page), 'Resume Dailies 14', 'the focus stays where it was');
  const stopped = await progress(page, 'Dailies 14');
  assert.ok(stopped > 0 && stopped < 1);

  line.rate = Infinity;
  await button(page, 'Dailies 14', 'Resume').click();
  await says(page, 'Dailies 14', 'Complete');
  await says(page, 'Dailies 14', '5 files');
  assert.deepEqual(files(target), Object.fromEntries(Object.entries(REEL).sort()));
  await page.waitForFunction(() => [...document.querySelectorAll('.files td:last-child')].every((cell) => cell.textContent === 'Complete'));
  assert.equal(await card(page, 'Dailies 14').getByRole('row').count(), 1 + 5);
  assert.equal(await card(page, 'Dailies 14').getByRole('progressbar').count(), 0);

  await button(page, 'Dailies 14', 'Verify').click();
  await says(page, 'Dailies 14', /^Verified /);
  assert.equal((await downloads(agent.url))[0].verification.files_done, 5);

  await button(page, 'Dailies 14', 'Delete').click();
  assert.ok(await page.getByLabel('Keep the files').isChecked());
  await picture(page, 'delete-desk-light');
  await page.getByRole('button', { name: 'Delete from the list' }).click();
  await page.getByText('No downloads yet.').waitFor();
  assert.deepEqual(await downloads(agent.url), []);
  assert.equal(Object.keys(files(target)).length, 5);
});

test('the folder is remembered, a link that is there already is shown, and files go when asked to', async () => {
  const { link, line } = await share(fill(folder(), REEL), ['--name', 'Rushes']);
  const agent = await serve([line]);
  const context = await person();
  const page = await visit(context, agent.url);
  const target = path.join(folder(), 'in');
  line.rate = 1_000_000;
  await add(page, link, target);
  await moves(page, 'Rushes');

  const again = await visit(context, agent.url);
  assert.equal(await again.getByLabel('Save in folder').inputValue(), target);
  await add(again, link, target);
  await again.getByRole('button', { name: 'Show it' }).click();
  assert.equal(await focused(again), 'Rushes');

  line.rate = Infinity;
  await says(page, 'Rushes', 'Complete');
  await button(page, 'Rushes', 'Delete').click();
  await page.getByLabel('Remove the files too').check();
  await page.getByRole('button', { name: 'Delete with its files' }).click();
  await page.getByText('No downloads yet.').waitFor();
  await again.getByText('No downloads yet.').waitFor();
  assert.deepEqual(files(path.dirname(target)), {});
});

test('a token is asked for once', async () => {
  const { link, line } = await share(fill(folder(), { 'a.txt': 10 }), ['--name', 'Small']);
  const tokens = folder();
  writeFileSync(path.join(tokens, 'token'), 'correct-horse\n');
  const agent = await serve([line], { flags: ['--token-file', path.join(tokens, 'token')] });
  const context = await person();
  const page = await visit(context, agent.url);
  const ask = page.getByRole('dialog', { name: 'API token' });
  await ask.waitFor();
  await assertAccessible(page, 'the question for the token');
  await picture(page, 'token-desk-light');
  await page.keyboard.press('Escape');
  await page.getByRole('region', { name: 'Connection' }).getByRole('button', { name: 'Enter the token' }).click();
  await ask.getByLabel('Token').fill('wrong');
  await page.keyboard.press('Enter');
  await ask.getByText('This is not the token.').waitFor();
  await ask.getByLabel('Token').fill('correct-horse');
  await page.keyboard.press('Enter');
  await page.getByText('No downloads yet.').waitFor();
  await add(page, link, path.join(folder(), 'in'));
  await says(page, 'Small', 'Complete');
  await page.reload();
  await says(page, 'Small', 'Complete');

  await page.evaluate(() => sessionStorage.setItem('haul.token', 'an-old-one'));
  await page.reload();
  await ask.getByText('not accepted any more').waitFor();

  const other = await visit(context, agent.url);
  await other.getByRole('dialog', { name: 'API token' }).getByLabel('Token').fill('correct-horse');
  await other.getByLabel('Remember it in this browser').check();
  await other.getByRole('button', { name: 'Continue' }).click();
  await says(other, 'Small', 'Complete');
  const third = await visit(context, agent.url);
  await says(third, 'Small', 'Complete');
});

test('names of strangers are text', async () => {
  const evil = '<img src=x onerror="window.owned=1">';
  const dir = fill(folder(), { [`${evil}.txt`]: 5, 'invoice\u202Efdp.exe': 5, '"><b id=owned>': 5, [`${'long'.repeat(50)}.bin`]: 5 });
  const { link, line } = await share(dir, ['--name', evil]);
  const agent = await serve([line]);
  const page = await visit(await person({ viewport: PHONE }), agent.url);
  await add(page, link, path.join(folder(), '<i>in</i>'));
  await says(page, evil, 'Complete');
  await button(page, evil, 'Files').click();
  await page.getByRole('row', { name: evil }).waitFor();
  await page.getByRole('row', { name: 'invoice\ufffdfdp.exe' }).waitFor();
  await assertAccessible(page, 'hostile names on a phone');
  await picture(page, 'hostile-phone-light');
  await button(page, evil, 'Delete').click();
  await page.getByRole('dialog').getByText(evil).waitFor();
  assert.equal(await page.evaluate(() => window.owned ?? document.querySelector('img, #owned, i')), null);
});

test('everything by keyboard', async () => {
  const { link, line } = await share(fill(folder(), REEL), ['--name', 'By hand']);
  const agent = await serve([line]);
  const page = await visit(await person(), agent.url);
  await page.getByText('No downloads yet.').waitFor();
  line.rate = 1_000_000;
  await tabTo(page, 'Link');
  await page.keyboard.insertText(link);
  await tabTo(page, 'Save in folder');
  await page.keyboard.insertText(path.join(folder(), 'in'));
  await tabTo(page, 'Download');
  await page.keyboard.press('Enter');
  await moves(page, 'By hand');
  assert.equal(await focused(page), 'Link', 'ready for the next link');
  await tabTo(page, 'Pause By hand');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineWidth);
  assert.equal(outline, '3px', 'the focus can be seen');
  await page.keyboard.press('Space');
  await says(page, 'By hand', 'Paused');
  await tabTo(page, 'Delete By hand');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog', { name: 'Delete this download?' }).waitFor();
  await page.keyboard.press('Escape');
  assert.equal(await page.getByRole('dialog').count(), 0);
  assert.equal(await focused(page), 'Delete By hand', 'the focus comes back');
  await page.keyboard.press('Enter');
  await tabTo(page, 'Delete from the list');
  await page.keyboard.press('Enter');
  await page.getByText('No downloads yet.').waitFor();
  assert.equal(await focused(page), 'Downloads', 'the focus does not get lost with its card');
});

test('a fault on the way, and an agent that goes and comes back', async () => {
  const { link, line } = await share(fill(folder(), REEL), ['--name', 'Over the hills']);
  const agent = await serve([line]);
  const page = await visit(await person({ viewport: PHONE, colorScheme: 'dark' }), agent.url);
  line.rate = 500_000;
  await add(page, link, path.join(folder(), 'in'));
  await moves(page, 'Over the hills');
  await picture(page, 'transfer-phone-dark');
  line.cut();
  await says(page, 'Over the hills', 'Waiting to try again');
  await says(page, 'Over the hills', /Trying again (in \d|now)/);
  await assertAccessible(page, 'a fault on a phone in the dark');
  await picture(page, 'fault-phone-dark');
  line.mend();
  await says(page, 'Over the hills', 'Downloading');

  const { port } = new URL(agent.url);
  await agent.stop();
  await page.getByText('Not connected to haul.').first().waitFor();
  await page.getByText(/^Trying again in \d+ s\.$/).waitFor();
  await assertAccessible(page, 'not connected');
  await picture(page, 'offline-phone-dark');
  line.rate = Infinity;
  const second = await serve([line], { listen: `127.0.0.1:${port}`, stateDir: agent.stateDir });
  await says(page, 'Over the hills', 'Complete');
  await page.getByText('Connected', { exact: true }).waitFor();
  assert.equal(await page.getByRole('region', { name: 'Connection' }).count(), 0);

  // What is deleted while the page cannot hear of it is gone when it can.
  await page.route('**/api/v1/events', (route) => route.abort());
  await second.stop();
  await page.getByText('Not connected to haul.').first().waitFor();
  await serve([line], { listen: `127.0.0.1:${port}`, stateDir: agent.stateDir });
  await fetch(`${agent.url}/api/v1/downloads`, { method: 'DELETE' });
  await card(page, 'Over the hills').waitFor();
  await page.unroute('**/api/v1/events');
  await page.getByRole('button', { name: 'Try now' }).click();
  await page.getByText('No downloads yet.').waitFor();
});

test('a file that the sender took away', async () => {
  const shared = fill(folder(), REEL);
  const { link, line } = await share(shared, ['--name', 'Torn reel']);
  const agent = await serve([line]);
  const page = await visit(await person(), agent.url);
  line.rate = 1_000_000;
  await add(page, link, path.join(folder(), 'in'));
  await moves(page, 'Torn reel');
  await button(page, 'Torn reel', 'Pause').click();
  await says(page, 'Torn reel', 'Paused');
  rmSync(path.join(shared, 'A001/clip 2.mov'));
  line.rate = Infinity;
  await button(page, 'Torn reel', 'Resume').click();
  await says(page, 'Torn reel', '1 failed');
  await says(page, 'Torn reel', /resume to try again\.$/);
  await button(page, 'Torn reel', 'Files').click();
  await card(page, 'Torn reel').getByText('1–1 of 1').waitFor();
  await card(page, 'Torn reel').getByRole('row', { name: /clip 2\.mov .+ Failed/ }).waitFor();
  await assertAccessible(page, 'a download in error');
  await picture(page, 'error-desk-light');
  fill(shared, { 'A001/clip 2.mov': REEL['A001/clip 2.mov'] });
  await button(page, 'Torn reel', 'Resume').click();
  await says(page, 'Torn reel', 'Complete');
});

test('many downloads: filters, a screen full, and the finished ones cleared away', async () => {
  const dir = folder();
  const lines = [];
  const links = [];
  for (const [name, size] of [['Short film, final', 40_000], ['Grading references', 90_000], ['Location photographs', 5_000_000], ['Sound, day 3', 6_000_000]]) {
    const made = await share(fill(path.join(dir, name), { 'reel.mov': size, 'cut/notes.txt': 40 }), ['--name', name]);
    lines.push(made.line);
    links.push(made.link);
  }
  const agent = await serve(lines);
  const page = await visit(await person(), agent.url);
  lines[2].rate = 200_000;
  lines[3].rate = 300_000;
  const target = folder();
  for (const [at, link] of links.entries()) {
    await add(page, link, target);
    await page.getByRole('listitem').nth(at).waitFor();
  }
  await moves(page, 'Location photographs');
  await button(page, 'Location photographs', 'Pause').click();
  await says(page, 'Location photographs', 'Paused');
  await says(page, 'Grading references', 'Complete');
  await moves(page, 'Sound, day 3');
  for (const colorScheme of ['light', 'dark']) {
    for (const [screen, viewport] of [['desk', DESK], ['phone', PHONE]]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(viewport);
      await assertAccessible(page, `${screen}, ${colorScheme}`);
      await picture(page, `list-${screen}-${colorScheme}`);
    }
  }
  await page.setViewportSize(DESK);
  await page.getByRole('radio', { name: 'Complete 2' }).check();
  assert.equal(await page.getByRole('listitem').count(), 2);
  await add(page, links[2], target);
  await page.getByRole('button', { name: 'Show it' }).click();
  assert.equal(await focused(page), 'Location photographs', 'shown although the filter left it out');
  await page.getByRole('radio', { name: 'Complete 2' }).check();
  await page.getByRole('button', { name: 'Remove completed from the list' }).click();
  await page.getByText('No download is in this state.').waitFor();
  await page.getByRole('radio', { name: 'All 2' }).check();
  assert.equal(await page.getByRole('listitem').count(), 2);
  assert.equal(Object.keys(files(target)).filter((file) => !file.endsWith('.part')).length >= 4, true);
});

test('a hundred thousand files do not freeze the page', async () => {
  const { link, line } = await share(fill(folder(), REEL), ['--name', 'Frames']);
  const agent = await serve([line]);
  const page = await visit(await person(), agent.url);
  await page.route('**/api/v1/downloads/*', async (route) => {
    const answer = await (await route.fetch()).json();
    answer.files = Array.from({ length: 100_000 }, (_, n) => (
      { file_id: String(n), path: `frames/${n}.dpx`, size: 12_000_000, bytes_done: 12_000_000, state: n % 1000 ? 'complete' : 'error', ...(n % 1000 ? {} : { error: { code: 'x', message: 'the server knows no such file' } }) }));
    await route.fulfill({ json: answer });
  });
  await add(page, link, path.join(folder(), 'in'));
  await says(page, 'Frames', 'Complete');
  await page.evaluate(() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
    }).observe({ type: 'longtask' });
  });
  await button(page, 'Frames', 'Files').click();
  const frames = card(page, 'Frames');
  await frames.getByText('1–100 of 100,000').waitFor();
  await button(page, 'Frames', 'Next').click();
  await frames.getByText('101–200 of 100,000').waitFor();
  assert.equal(await frames.getByRole('row').count(), 1 + 100);
  await frames.getByLabel('Page').fill('777');
  await frames.getByText('77,601–77,700 of 100,000').waitFor();
  await button(page, 'Frames', 'Previous').click();
  assert.equal(await frames.getByLabel('Page').inputValue(), '776');
  await frames.getByLabel('Search the files').fill('/12345.D');
  await frames.getByText('1–1 of 1', { exact: true }).waitFor();
  assert.equal(await frames.getByText('frames/12345.dpx').count(), 1);
  await picture(page, 'found-file-desk-light');
  await frames.getByLabel('Search the files').fill('');
  await frames.getByLabel('Show').selectOption('failed');
  await frames.getByText('1–100 of 100', { exact: true }).waitFor();
  assert.equal(await frames.getByText('The server knows no such file.').count(), 100);
  await picture(page, 'failed-files-desk-light');
  const longest = await page.evaluate(() => window.longest);
  assert.ok(longest < 2000, `the page stood still for ${longest} ms`);
});

test('motion is reduced for those who ask for it', async () => {
  const agent = await serve([]);
  const page = await visit(await person({ reducedMotion: 'reduce' }), agent.url);
  const animation = await page.evaluate(() => getComputedStyle(document.body.appendChild(document.createElement('progress'))).animationName);
  assert.equal(animation, 'none');
});

test('the page is small and alone', async () => {
  const agent = await serve([]);
  const answer = await fetch(agent.url);
  const page = await answer.text();
  assert.ok(Buffer.byteLength(page) <= 60_000, `${Buffer.byteLength(page)} bytes`);
  assert.match(answer.headers.get('Content-Security-Policy'), /default-src 'none'/);
  assert.doesNotMatch(answer.headers.get('Content-Security-Policy'), /unsafe/);
});
