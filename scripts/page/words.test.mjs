// How the page words the API's messages. Needs no browser: the functions are taken out of the page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const page = readFileSync(new URL('../../src/api/page.html', import.meta.url), 'utf8');

/** The page's functions of these names; each is one line. */
function taken(...names) {
  const lines = names.map((name) => page.match(new RegExp(`^const ${name} = .*$`, 'm'))[0]);
  return new Function(`${lines.join('\n')}\nreturn { ${names.join(', ')} };`)();
}

test('a cause keeps its own end when "trying again" is cut off', () => {
  const { cause } = taken('plain', 'sentence', 'cause');
  for (const [message, shown] of [
    ['own.example: connection refused; trying again', 'Own.example: connection refused.'],
    ['the disk is missing (/mnt/in); trying again', 'The disk is missing (/mnt/in).'],
    ['own.example cannot be found; is there a network?; trying again', 'Own.example cannot be found; is there a network?'],
    ['the server said "no"; trying again', 'The server said "no".'],
    ['it stopped trying again and again', 'It stopped trying again and again.'],
    ['trying again', '.'],
  ]) assert.equal(cause(message), shown);
});
