// A worker for hpo-steer in Node: takes points of an experiment, trains them, and sends back what came of them.
//
//   node worker.mjs --broker amqp://guest@localhost --experiment foreign_worker --slots 2
//
// The first SIGTERM or SIGINT finishes what runs, the second ends at once; neither loses a point.

import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Broker, check, isAttempt, isId, isName, isObject, members, names, read, say } from './broker.mjs';

const { values: options } = parseArgs({
  options: {
    broker: { type: 'string', default: 'amqp://guest@localhost' },
    experiment: { type: 'string' },
    slots: { type: 'string', default: '1' },
    objective: { type: 'string', default: 'loss' },
    train: { type: 'string', default: 'train.mjs' },
    'heartbeat-s': { type: 'string', default: '5' },
  },
});
const experiment = options.experiment;
if (!experiment) {
  say('error: --experiment NAME is missing');
  process.exit(2);
}
const slots = Number(options.slots);
const host = hostname() || 'localhost';
const worker = `${host.slice(0, 100)}-${process.pid}-${randomBytes(3).toString('hex')}`;
const queue = names(experiment);
const training = pathToFileURL(options.train).href;

const LONGEST_TIMER_MS = 2 ** 31 - 1;
const REMEMBERED = 100_000;

let run = '*'; // until the first work says which
let draining = false;
const running = new Map(); // 'run point attempt': the Attempt that is in a slot
const cancelled = new Set(); // 'run point'
const waiting = new Set(); // of functions: each ends the wait of a slot for a delivery

const event = (type, fields) => ({ v: 1, type, experiment, run, worker, at: Date.now() / 1000, ...fields });
const key = (message) => `${message.run} ${message.point} ${message.attempt}`;
const failure = (kind, message) => ({ failure: { kind, message: String(message).slice(0, 60_000) } });

// --- the connection ---

const broker = new Broker(options.broker, async (session) => {
  const { channel } = session;
  for (const name of [queue.work, queue.events]) await channel.checkQueue(name); // steering makes them
  for (const name of [queue.eventsIn, queue.control, queue.dead]) await channel.checkExchange(name);
  const own = `${queue.control}.${randomBytes(16).toString('hex')}`;
  await channel.assertQueue(own, { exclusive: true, autoDelete: true, durable: false });
  await channel.bindQueue(own, queue.control, '');
  await channel.consume(own, (message) => message && hear(session, message).catch(session.fail));
  await channel.prefetch(1); // of every consumer from here on
  await session.publish(queue.eventsIn, queue.events, event('hello', { host, slots, running: pairs(run) }));
  session.over.catch(() => stopWaiting());
  say(`connected to experiment ${experiment} as ${worker}`);
});

function pairs(ofRun) {
  return [...running.values()].filter(({ work }) => work.run === ofRun).map(({ work }) => [work.point, work.attempt]);
}

function beat() {
  const runs = new Set([run, ...[...running.values()].map(({ work }) => work.run)]);
  for (const one of runs) {
    broker.session?.mention(queue.eventsIn, event('heartbeat', { run: one, running: pairs(one), slots }));
  }
}

function stopWaiting() {
  for (const stop of waiting) stop();
}

// --- what steering says to all workers ---

async function hear(session, delivery) {
  for (const body of members(delivery)) {
    try {
      obey(read(body, experiment, ['stop', 'cancel']));
    } catch (error) {
      await session.bury(experiment, queue.control, body, error.message);
    }
  }
  session.channel.ack(delivery);
}

function obey(message) {
  if (message.type === 'cancel') {
    check(Array.isArray(message.points) && message.points.every(isId), 'points: no list of ids');
    for (const point of message.points) cancelled.add(`${message.run} ${point}`);
    for (const oldest of cancelled) {
      if (cancelled.size <= REMEMBERED) break;
      cancelled.delete(oldest);
    }
  } else {
    check(isId(message.point) && isAttempt(message.attempt), 'stop: no point and attempt');
    if ((message.worker ?? worker) !== worker) return;
    running.get(key(message))?.end(message.kind ?? 'cancelled', message.reason || 'steering has ended this attempt');
  }
}

// --- the slots ---

/** One point after the other. */
async function slot(number) {
  while (!draining) {
    const session = broker.session;
    if (!session) {
      await sleep(100);
      continue;
    }
    try {
      const delivery = await take(session);
      if (delivery) await serve(session, number, delivery);
    } catch (error) {
      session.fail(error); // what is not acknowledged, the broker hands out again
      await sleep(100);
    }
  }
}

/** The next delivery. Its consumer is gone before it is acknowledged, so that a busy slot attracts no work. */
async function take({ channel }) {
  const consumerTag = randomBytes(8).toString('hex');
  let message = null;
  let stop;
  const stopped = new Promise((resolve) => { stop = resolve; });
  const deliver = (one) => { message = one; stop(); }; // null: the broker has ended the consumer
  waiting.add(stop);
  try {
    await channel.consume(queue.work, deliver, { consumerTag });
    if (!draining) await stopped;
    await channel.cancel(consumerTag);
  } finally {
    waiting.delete(stop);
  }
  if (!draining) return message;
  if (message) channel.nack(message, false, true);
  return null;
}

/** Does what a delivery holds: a single point with a lease, or a bundle of short ones. */
async function serve(session, number, delivery) {
  const bodies = members(delivery);
  let settled = false;
  for (const body of bodies) {
    let work;
    try {
      work = readWork(body);
    } catch (error) {
      await session.bury(experiment, queue.work, body, error.message);
      continue;
    }
    run = work.run;
    if (cancelled.has(`${work.run} ${work.point}`) || running.has(key(work))) continue;
    const attempt = new Attempt(work, number);
    running.set(key(work), attempt);
    try {
      if (bodies.length === 1) { // the lease is safe before the broker forgets the message
        await session.publish(queue.eventsIn, queue.events, attempt.event('started', {}));
        session.channel.ack(delivery);
        settled = true;
      }
      const result = await attempt.train();
      await broker.deliver(queue.eventsIn, queue.events, result);
    } finally {
      running.delete(key(work));
    }
  }
  if (!settled) session.channel.ack(delivery);
}

function readWork(body) {
  const work = read(body, experiment, ['work']);
  check(isId(work.point), 'point: no id');
  check(isAttempt(work.attempt), 'attempt: no whole number from 1');
  check(isName(work.model) && isId(work.iteration), 'model and iteration are not what they should be');
  check(isObject(work.params), 'params: no object');
  check(work.timeout_s == null || work.timeout_s > 0, 'timeout_s: no number above 0');
  return work;
}

/** One try at one point, in a thread. */
class Attempt {
  #ended = null;

  constructor(work, number) {
    Object.assign(this, { work, number });
  }

  event(type, fields) {
    const { run: itsRun, point, attempt } = this.work;
    return event(type, { run: itsRun, point, attempt, slot: this.number, ...fields });
  }

  /** Ends it before its time; it has failed in this way. */
  end(kind, message) {
    this.#ended = failure(kind, message);
    this.finish?.(this.#ended);
  }

  /** Trains, and makes the result. */
  async train() {
    const began = Date.now();
    const outcome = this.#ended ?? (await this.#runThread());
    if (outcome.failure) say(`point ${this.work.point} failed: ${outcome.failure.kind}: ${outcome.failure.message}`);
    const duration = (Date.now() - began) / 1000;
    return this.event('result', { ...outcome, started_at: began / 1000, duration_s: Math.max(duration, 0) });
  }

  async #runThread() {
    const { params, point, attempt, model, iteration, timeout_s: timeoutS } = this.work;
    const workerData = { file: training, params, point: { id: point, attempt, model, iteration } };
    const thread = new Worker(new URL('./thread.mjs', import.meta.url), { workerData });
    const outcome = await new Promise((resolve) => {
      this.finish = resolve;
      if (timeoutS != null) {
        const late = () => resolve(failure('timeout', `no result within ${timeoutS} s`));
        this.timer = setTimeout(late, Math.min(1000 * timeoutS, LONGEST_TIMER_MS));
      }
      thread.on('message', (said) => (said.report ? this.#report(said.report) : resolve(judge(said.returned))));
      thread.on('error', (error) => resolve(failure('error', `${error?.name}: ${error?.message}`)));
      thread.on('exit', (code) => resolve(failure('error', `the training ended with code ${code}`)));
    });
    clearTimeout(this.timer);
    await thread.terminate();
    return outcome;
  }

  #report({ step, metrics }) {
    broker.session?.mention(queue.eventsIn, this.event('report', { step, metrics: finite(metrics) }));
  }
}

const finite = (metrics) => Object.fromEntries(Object.entries(metrics).filter(([, value]) => Number.isFinite(value)));

/** What a training returned, as the outcome of an attempt. JSON has no NaN, and steering wants the objective. */
function judge(returned) {
  const metrics = typeof returned === 'number' ? { [options.objective]: returned } : returned;
  const value = isObject(metrics) ? metrics[options.objective] : undefined;
  if (typeof value !== 'number') return failure('error', `the training returned no number "${options.objective}"`);
  if (!Number.isFinite(value)) return failure('invalid', `metric "${options.objective}" is ${value}`);
  return { metrics: finite(metrics) };
}

// --- its life ---

async function leave(reason) {
  const farewell = broker.session?.publish(queue.eventsIn, queue.events, event('bye', { reason }));
  await farewell?.catch((error) => say(`nobody heard the goodbye: ${error.message}`));
  await broker.close();
  process.exit(0);
}

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    if (draining) leave('stopped');
    draining = true;
    say(`draining: ${running.size} running; again to stop at once`);
    stopWaiting();
  });
}
setInterval(beat, 1000 * Number(options['heartbeat-s']));
broker.keep();
await Promise.all(Array.from({ length: slots }, (_, number) => slot(number)));
await leave('drained');
