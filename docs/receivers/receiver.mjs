// A receiver of Switchhook's deliveries in Node's standard library: run it as it is, or take its functions.
//
//     SWITCHHOOK_SIGNING_SECRET=whsec_... node receiver.mjs 8100 inbox
//
// It listens on loopback; your TLS proxy stands in front. `Inbox` is where your database goes: a table with a unique
// `webhook-id` does the same.

import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { linkSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const TOLERANCE_SECONDS = 300;
// A recording is at most 64 MiB when Switchhook takes it; the envelope comes on top.
const MAX_BODY_BYTES = 65 * 1024 * 1024;
// A call goes forward only. What arrives behind a later step of its session is old news.
const STEPS = {
  'retell.call_started': 1, 'retell.transcript_updated': 2, 'retell.call_ended': 3, 'retell.call_analyzed': 4,
};

// Whether Switchhook sent these bytes in the last five minutes (Standard Webhooks 1.0).
function verify(headers, body, secret) {
  const id = headers['webhook-id'] ?? '', timestamp = headers['webhook-timestamp'] ?? '';
  if (!/^[0-9]{1,12}$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) {
    return false;
  }
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const digest = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64');
  const expected = Buffer.from(`v1,${digest}`);
  return (headers['webhook-signature'] ?? '').split(' ').some((signature) => {
    const given = Buffer.from(signature);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

// Deliveries on disk, one file each, named by webhook-id: emptied once handled, and kept to know repeats by.
class Inbox {
  #reached = new Map(); // session -> step; in your database, a column of the session's row

  constructor(directory) {
    mkdirSync(directory, { recursive: true });
    this.directory = directory;
  }

  // Take up what an earlier process stored and did not handle, oldest first.
  resume() {
    const kept = readdirSync(this.directory).filter((name) => name.startsWith('evt_'))
      .map((name) => ({ name, stat: statSync(join(this.directory, name)) }))
      .sort((a, b) => a.stat.mtimeMs - b.stat.mtimeMs);
    for (const { name, stat } of kept) if (stat.size) setImmediate(() => this.work(name));
  }

  // Store a delivery whole, or not at all if its id is there already.
  keep(id, delivery) {
    const draft = join(this.directory, `draft-${randomUUID()}`);
    writeFileSync(draft, delivery, { mode: 0o600 });
    try {
      linkSync(draft, join(this.directory, id)); // atomic, and refused if the name is taken
    } catch (error) {
      if (error.code === 'EEXIST') return;
      throw error;
    } finally {
      unlinkSync(draft);
    }
    setImmediate(() => this.work(id));
  }

  work(id) {
    const path = join(this.directory, id);
    const delivery = readFileSync(path), end = delivery.indexOf('\n');
    const { type, session } = JSON.parse(delivery.subarray(0, end));
    const step = STEPS[type] ?? 0, reached = this.#reached.get(session) ?? 0;
    if (step > 0 && step < reached) {
      console.log(`stale ${id} ${type}`);
    } else {
      this.#reached.set(session, Math.max(step, reached));
      try {
        handle(type, session, delivery.subarray(end + 1));
      } catch (error) {
        console.log(`failed ${id} ${error.name}`);
        return; // it stays on disk, and is tried again at the next start
      }
      console.log(`handled ${id} ${type}`);
    }
    truncateSync(path, 0);
  }
}

// Your work goes here. It may take its time: the answer was given long ago.
function handle(type, session, body) {}

async function read(request) {
  const pieces = [];
  let size = 0;
  for await (const piece of request) {
    size += piece.length;
    if (size > MAX_BODY_BYTES) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

// Verify, store, answer; everything else happens later.
async function receive(request, inbox, secret) {
  const body = await read(request);
  if (body === null) return 413;
  const { 'webhook-id': id = '', 'switchhook-event': type, 'switchhook-session': session } = request.headers;
  if (!verify(request.headers, body, secret) || !/^evt_[a-z0-9]{1,60}$/.test(id)) return 401;
  inbox.keep(id, Buffer.concat([Buffer.from(`${JSON.stringify({ type, session })}\n`), body]));
  return 204;
}

const [port, directory] = process.argv.slice(2);
const secret = process.env.SWITCHHOOK_SIGNING_SECRET;
if (!secret) throw new Error('SWITCHHOOK_SIGNING_SECRET is not set');
const inbox = new Inbox(directory);
const server = createServer((request, response) => {
  receive(request, inbox, secret)
    .catch(() => 500)
    .then((status) => response.writeHead(status, status === 204 ? {} : { Connection: 'close' }).end());
});
server.listen(Number(port), '127.0.0.1', () => {
  console.log(`listening on ${server.address().port}`);
  inbox.resume();
});
