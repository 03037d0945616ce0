// Real hauls for the page's tests: a share, an agent, and a line between them that can be made
// slow or cut, so that a transfer is under way for as long as a test looks at it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

const HAUL = process.env.HAUL;
const running = new Set();
const folders = [];

/** A folder that goes away with the tests. */
export function folder() {
  const made = mkdtempSync(path.join(tmpdir(), 'haul-page-'));
  folders.push(made);
  return made;
}

/** Starts a haul; `line` is the first one that it prints. */
async function start(args) {
  const child = spawn(HAUL, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  const lines = readline.createInterface({ input: child.stdout });
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`haul ${args[0]} ended with ${code} before it was ready`);
  });
  ended.catch(() => {});
  const [line] = await Promise.race([once(lines, 'line'), ended]);
  return { line, stop: () => stop(child) };
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}

/** Ends whatever still runs and removes every folder. */
export async function cleanUp() {
  await Promise.all([...running].map(stop));
  for (const made of folders) rmSync(made, { recursive: true, force: true });
}

/** Shares a folder behind a line; its link leads through the line. */
export async function share(dir, flags = []) {
  const line = await Line.open();
  const { line: link } = await start([
    'share', dir, '--listen', `127.0.0.1:${line.behind}`, '--public-url', line.base, ...flags,
  ]);
  return { link, line };
}

/** An agent that knows the shares behind these lines. */
export async function serve(lines, { flags = [], listen = '127.0.0.1:0', stateDir = folder() } = {}) {
  const origins = lines.flatMap((line) => ['--origin', `${line.base}=${line.base}/v1`]);
  const { line, stop: end } = await start([
    'serve', '--listen', listen, '--state-dir', stateDir, ...origins, ...flags,
  ]);
  return { url: line.replace(/^listening on /, ''), stateDir, stop: end };
}

/** A TCP relay whose way back has a rate, shared by all connections. */
class Line {
  rate = Infinity;                      // Bytes a second.
  #free = 0;                            // When the line has sent what it was given, ms.
  #sockets = new Set();
  #cut = false;

  static async open() {
    const line = new Line();
    line.behind = await freePort();
    const server = net.createServer((near) => line.#join(near));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    server.unref();
    line.base = `http://127.0.0.1:${server.address().port}`;
    return line;
  }

  /** Breaks every connection, and those to come. */
  cut() {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#cut = false;
  }

  #join(near) {
    if (this.#cut) return near.destroy();
    const far = net.connect(this.behind, '127.0.0.1');
    for (const [socket, other] of [[near, far], [far, near]]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => { this.#sockets.delete(socket); other.destroy(); });
    }
    near.pipe(far);
    far.on('data', (bytes) => this.#pass(bytes, far, near));
  }

  #pass(bytes, far, near) {
    near.write(bytes);
    if (this.rate === Infinity) return;
    const now = performance.now();
    this.#free = Math.max(now, this.#free) + (1000 * bytes.length) / this.rate;
    far.pause();
    setTimeout(() => far.resume(), this.#free - now).unref();
  }
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
