// Makes the README's picture of the page, scripts/pictures/page.png. After scripts/test-page has been run:
//
//   PAGE_MODULES=target/page/node PAGE_PICTURES=scripts/pictures CHROMIUM=/usr/bin/chromium HAUL=target/debug/haul node scripts/page/picture.mjs

import path from 'node:path';

import { closeBrowser, openBrowser, person, picture, visit } from './browser.mjs';
import { cleanUp, folder, serve, share } from './haul.mjs';
import { add, button, fill, moves, says } from './steps.mjs';

const target = path.join(folder(), 'in');
const packages = [
  ['Short film, final', { 'film.mov': 48_000_000 }, Infinity],
  ['Grading references', { 'stills.zip': 9_000_000, 'notes.pdf': 80_000 }, Infinity],
  ['Sound, day 3', { 'boom.wav': 60_000_000, 'lav.wav': 60_000_000 }, 4_000_000],
  ['Dailies 14', { 'A001.mov': 90_000_000, 'A002.mov': 90_000_000, 'B001.mov': 40_000_000 }, 18_000_000],
];
await openBrowser();
try {
  const shares = [];
  for (const [name, files] of packages) shares.push(await share(fill(folder(), files), ['--name', name]));
  const agent = await serve(shares.map(({ line }) => line));
  const page = await visit(await person({ viewport: { width: 960, height: 700 }, deviceScaleFactor: 1.5 }), agent.url);
  for (const [i, [name, , rate]] of packages.entries()) {
    shares[i].line.rate = rate;
    await add(page, shares[i].link, target);
    if (rate === Infinity) await says(page, name, 'Complete');
    else await moves(page, name);
  }
  await button(page, 'Sound, day 3', 'Pause').click();
  await says(page, 'Sound, day 3', 'Paused');
  await says(page, 'Dailies 14', /left$/);
  // The folder is a temporary one.
  await page.evaluate(() => {
    for (const where of document.querySelectorAll('.where')) where.textContent = where.textContent.replace(/^\S+/, '/volume1/in');
    document.getElementById('folder').value = '/volume1/in';
    document.activeElement.blur();
  });
  await picture(page, 'page');
} finally {
  await closeBrowser();
  await cleanUp();
}
