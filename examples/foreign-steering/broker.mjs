// What both halves need of AMQP: one connection, made anew when it is lost; messages that are confirmed; bundles taken
// apart; dead letters. The same file lies in examples/foreign-worker and examples/foreign-steering.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import amqp from 'amqplib';

const MAX_BYTES = 1_048_576;
const MAX_BUNDLE = 1_000;
const KEPT_OF_HUGE = 65_536;
const CONTROLS = /[\u0000-\u001f\u007f-\u009f]/;

export const say = (text) => console.error(text);

/** The names of an experiment's queues and exchanges. */
export function names(experiment) {
  const base = `hpo.${experiment}`;
  return {
    work: `${base}.work`, workIn: `${base}.work.in`, events: `${base}.events`, eventsIn: `${base}.events.in`,
    control: `${base}.control`, dead: `${base}.dead`,
  };
}

/** The connection of the moment, if there is one. */
export class Broker {
  /**
   * @param {string} url amqp:// or amqps://; the password may come from HPO_STEER_BROKER_PASSWORD instead.
   * @param {(session: Session) => Promise<void>} setUp declares and consumes, after each connection.
   */
  constructor(url, setUp) {
    this.url = new URL(url);
    this.url.password ||= process.env.HPO_STEER_BROKER_PASSWORD ?? '';
    this.url.searchParams.set('heartbeat', '15');
    this.setUp = setUp;
    this.session = null;
    this.closed = false;
  }

  /** Connects, and connects again with growing pauses, until `close`. */
  async keep() {
    for (let pauseS = 0.5; !this.closed; pauseS = Math.min(2 * pauseS, 15)) {
      let session;
      try {
        session = new Session(await amqp.connect(this.url.href, { timeout: 10_000 }));
        await session.open();
        await this.setUp(session);
        this.session = session;
        pauseS = 0.5;
        await session.over;
      } catch (error) {
        if (!this.closed) say(`no connection: ${error.message}; trying again`);
      }
      this.session = null;
      await session?.close();
      if (!this.closed) await sleep(1000 * pauseS * (0.5 + Math.random()));
    }
  }

  /** Publishes until the broker has confirmed it, over as many connections as it takes. */
  async deliver(exchange, queue, message) {
    for (;;) {
      const session = this.session;
      try {
        if (session) return await session.publish(exchange, queue, message);
      } catch (error) {
        say(`not sent yet: ${error.message}`);
      }
      await sleep(300);
    }
  }

  async close() {
    this.closed = true;
    await this.session?.close();
  }
}

/** One connection with one channel; whatever happens to either ends both. */
export class Session {
  #returned = new Set();
  #count = 0;

  constructor(connection) {
    this.connection = connection;
    this.over = new Promise((resolve, reject) => {
      connection.on('error', reject);
      connection.on('close', () => reject(new Error('connection closed')));
      this.fail = reject;
    });
    this.over.catch(() => {}); // whoever waits for it is told, and nobody has to
  }

  async open() {
    this.channel = await this.connection.createConfirmChannel();
    this.channel.on('error', this.fail);
    this.channel.on('close', () => this.fail(new Error('channel closed')));
    this.channel.on('return', ({ properties }) => this.#returned.add(properties.messageId));
  }

  /** Publishes a persistent, mandatory message; resolves once the broker has it safely in the queue. */
  publish(exchange, queue, message, headers = {}) {
    const body = Buffer.isBuffer(message) ? message : Buffer.from(JSON.stringify(message));
    const messageId = `${++this.#count}`;
    const options = { persistent: true, mandatory: true, contentType: 'application/json', messageId, headers };
    return new Promise((resolve, reject) => {
      this.channel.publish(exchange, queue, body, options, (error) => {
        if (error) reject(error);
        else if (this.#returned.delete(messageId)) reject(new Error(`${queue} is not bound to ${exchange}`));
        else resolve();
      });
    });
  }

  /** Publishes what is of no use later, such as a heartbeat: nobody waits for it. */
  mention(exchange, message) {
    const body = Buffer.from(JSON.stringify(message));
    try {
      this.channel.publish(exchange, '', body, { contentType: 'application/json' }, () => {});
    } catch {
      // the channel is closing, and the next session says it anew
    }
  }

  /** Puts a useless message to the dead letters, with the reason; it may be acknowledged afterwards. */
  bury(experiment, queue, body, reason) {
    const { dead } = names(experiment);
    const kept = body.length > MAX_BYTES ? body.subarray(0, KEPT_OF_HUGE) : body;
    return this.publish(dead, dead, kept, { 'x-queue': queue, 'x-reason': reason.slice(0, 1_000) });
  }

  async close() {
    await this.connection.close().catch(() => {});
  }
}

/** The messages in a delivery: one, or those of a bundle, as buffers. */
export function members({ content, properties }) {
  const type = String(properties.contentType ?? '').split(';')[0].trim().toLowerCase();
  if (type !== 'application/x-ndjson' || content.length > MAX_BYTES) return [content];
  const lines = content.toString('latin1').split('\n').filter((line) => line.trim());
  return lines.length > 0 && lines.length <= MAX_BUNDLE ? lines.map((line) => Buffer.from(line, 'latin1')) : [content];
}

/** The message in a body; throws an error with the reason for the dead letters. */
export function read(body, experiment, types) {
  check(body.length <= MAX_BYTES, `message of ${body.length} bytes; ${MAX_BYTES} are allowed`);
  let message;
  try {
    message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new Error('no JSON in UTF-8');
  }
  check(isObject(message), 'no JSON object');
  check(message.v === 1, 'another protocol version, this is version 1');
  check(types.includes(message.type), `type: none of ${types.join(', ')}`);
  check(message.experiment === experiment, `of another experiment, this is ${experiment}`);
  check(isName(message.run), 'run: no name');
  return message;
}

export function check(ok, reason) {
  if (!ok) throw new Error(reason);
}

export const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
export const isWhole = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
export const isName = (value) =>
  typeof value === 'string' && value.length > 0 && value.length <= 200 && !CONTROLS.test(value);
export const isId = (value) => isWhole(value, 0, 2 ** 53);
export const isAttempt = (value) => isWhole(value, 1, 100_000);
export const readJson = (path) => JSON.parse(readFileSync(path, 'utf-8'));
