// Steering for hpo-steer's workers in Node: a random search that sends points out, takes in what came of them, and
// sends lost ones out again.
//
//   node steering.mjs --broker amqp://guest@localhost --experiment foreign_steering --points 40
//
// It keeps its books in memory: started again, it begins a new run, and what is left of the old one counts for nothing.

import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Broker, check, isAttempt, isId, isName, isObject, isWhole, members, names, read, readJson, say,
} from './broker.mjs';

const { values: options } = parseArgs({
  options: {
    broker: { type: 'string', default: 'amqp://guest@localhost' },
    experiment: { type: 'string' },
    space: { type: 'string', default: new URL('./space.json', import.meta.url).pathname },
    points: { type: 'string', default: '40' },
    parallel: { type: 'string', default: '8' },
    target: { type: 'string', default: '-Infinity' },
    objective: { type: 'string', default: 'loss' },
    seed: { type: 'string', default: '1' },
    'lease-s': { type: 'string', default: '60' },
    'heartbeat-s': { type: 'string', default: '5' },
  },
});
const experiment = options.experiment;
if (!experiment) {
  say('error: --experiment NAME is missing');
  process.exit(2);
}
const [wanted, parallel, target] = [options.points, options.parallel, options.target].map(Number);
const leaseMs = 1000 * Number(options['lease-s']);
const beatMs = 1000 * Number(options['heartbeat-s']);
const queue = names(experiment);
const run = randomUUID().replaceAll('-', '');

const MOST_ATTEMPTS = 3; // at a point whose training fails
const MOST_LOST = 10; // workers that may vanish over one point
const RETRIED = ['error', 'lost'];
const KINDS = ['invalid', 'error', 'timeout', 'lost', 'pruned', 'cancelled'];
const EVENTS = ['hello', 'started', 'heartbeat', 'report', 'result', 'bye', 'echo'];

const message = (type, fields) => ({ v: 1, type, experiment, run, ...fields });

// --- the search ---

/** The seeded generator mulberry32: numbers in [0, 1). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = generator(Number(options.seed));
const space = readJson(options.space);
const draw = {
  float: ({ low, high, log }) =>
    log ? low * (high / low) ** random() : low + (high - low) * random(),
  int: ({ low, high }) => low + Math.floor((high - low + 1) * random()),
  categorical: ({ choices }) => choices[Math.floor(choices.length * random())],
};

function propose() {
  return Object.fromEntries(Object.entries(space).map(([name, spec]) => [name, draw[spec.type](spec)]));
}

// --- the books ---

/** A point: queued, then running with a lease, at last done or failed. */
const points = [];
let heardUntil = Date.now(); // whatever workers had said by then has been read
const echoes = new Map(); // number: when it was sent
let echoed = 0;

const open = () => points.filter(({ state }) => state === 'queued' || state === 'running');
const done = () => points.filter(({ state }) => state === 'done');
const best = () => done().reduce((a, b) => (a && a.value <= b.value ? a : b), null);
const over = () => (best()?.value ?? Infinity) <= target || points.length - open().length >= wanted;

async function send(point) {
  const { id, attempt, params } = point;
  await broker.deliver(queue.workIn, queue.work,
    message('work', { point: id, attempt, model: 'main', iteration: 1, params }));
}

/** Keeps enough points out, until there are as many as wanted. */
async function fill() {
  while (!over() && points.length < wanted && open().length < parallel) {
    const point = { id: points.length + 1, attempt: 1, lost: 0, failed: 0, state: 'queued', params: propose() };
    points.push(point);
    await send(point);
  }
}

/** An attempt has come to nothing: the point goes out again, unless that has happened too often. */
async function again(point, kind, why) {
  if (kind === 'lost') point.lost += 1;
  else point.failed += 1;
  say(`point ${point.id}, attempt ${point.attempt}: ${kind}: ${why}`);
  if (!RETRIED.includes(kind) || point.lost >= MOST_LOST || point.failed >= MOST_ATTEMPTS) {
    Object.assign(point, { state: 'failed', why });
    return;
  }
  Object.assign(point, { state: 'queued', attempt: point.attempt + 1, worker: null });
  await send(point);
}

// --- what workers say ---

/** The point an event is about, if it is about its present attempt; throws where there is no such point. */
function pointOf({ point: id, attempt }) {
  check(isId(id) && isAttempt(attempt), 'no point and attempt');
  const point = points[id - 1];
  check(point && attempt <= point.attempt, `point ${id}, attempt ${attempt}: there is none`);
  return point.attempt === attempt ? point : null;
}

function lease(point, worker) {
  if (point?.state !== 'queued' && point?.state !== 'running') return;
  Object.assign(point, { state: 'running', worker, renewed: Date.now() });
}

const isMetrics = (value) => isObject(value) && Object.values(value).every(Number.isFinite);

const taken = {
  hello: renewAll,
  heartbeat: renewAll,
  started: (event) => lease(pointOf(event), event.worker),
  report: (event) => lease(pointOf(event), event.worker),
  async result(event) {
    const { metrics, failure } = event;
    check((metrics == null) !== (failure == null), 'a result has either metrics or a failure');
    check(metrics == null || isMetrics(metrics), 'metrics: no numbers by name');
    check(failure == null || (isObject(failure) && KINDS.includes(failure.kind)), 'failure: of no known kind');
    const late = points[event.point - 1];
    const point = pointOf(event) ?? (metrics ? late : null); // a late value is as good as any
    if (point?.state !== 'queued' && point?.state !== 'running') return; // the first result counts
    if (failure) return again(point, failure.kind, failure.message ?? '');
    const value = metrics[options.objective];
    if (value === undefined) return again(point, 'error', `no metric "${options.objective}"`);
    Object.assign(point, { state: 'done', value, metrics });
    if (value <= best().value) say(`${done().length} done, best ${options.objective} ${value}: point ${point.id}`);
  },
  async bye({ worker, reason }) {
    for (const point of points.filter((one) => one.state === 'running' && one.worker === worker)) {
      await again(point, 'lost', `its worker has left: ${reason ?? ''}`);
    }
  },
  echo({ number }) {
    heardUntil = echoes.get(number) ?? heardUntil;
    echoes.delete(number);
  },
};

function renewAll({ running = [], worker }) {
  check(Array.isArray(running), 'running: no list');
  for (const [point, attempt] of running) {
    if (points[point - 1]?.attempt === attempt) lease(points[point - 1], worker);
  }
}

async function take(session, delivery) {
  for (const body of members(delivery)) {
    try {
      const event = read(body, experiment, EVENTS);
      if (event.type === 'echo') check(isWhole(event.number, 0, 2 ** 53), 'number: no whole number');
      else check(isName(event.worker), 'worker: no name');
      const anyRun = event.run === '*' && ['hello', 'heartbeat', 'bye'].includes(event.type);
      check(event.run === run || anyRun, `of run ${event.run}, this is run ${run}`);
      await taken[event.type](event);
    } catch (error) {
      await session.bury(experiment, queue.events, body, error.message);
    }
  }
  session.channel.ack(delivery);
}

// --- the connection ---

async function declare({ channel }) {
  const { work, workIn, events, eventsIn, control, dead } = queue;
  for (const exchange of [dead, control, workIn, eventsIn]) {
    await channel.assertExchange(exchange, 'fanout', { durable: true });
  }
  const shared = { 'x-queue-type': 'quorum', 'x-dead-letter-exchange': dead, 'x-delivery-limit': 100_000 };
  const last = { 'x-queue-type': 'quorum', 'x-max-length-bytes': 1_073_741_824 };
  for (const [name, exchange, args] of [[dead, dead, last], [work, workIn, shared], [events, eventsIn, shared]]) {
    await channel.assertQueue(name, { durable: true, arguments: args });
    await channel.bindQueue(name, exchange, '');
  }
}

let begun = false;
let turn = Promise.resolve(); // one delivery after the other

const broker = new Broker(options.broker, async (session) => {
  await declare(session);
  if (!begun) await session.channel.purgeQueue(queue.work); // work of an earlier run
  begun = true;
  echoes.clear(); // they were lost with the connection, and so may be what came before them
  await session.channel.prefetch(500);
  await session.channel.consume(queue.events, (delivery) => {
    turn = turn.then(() => delivery && take(session, delivery)).catch(session.fail);
  });
  say(`connected: experiment ${experiment}, run ${run}`);
});

/** A worker's silence counts only as far as an echo, by the same way, has shown that it would have been heard. */
async function mindLeases() {
  const silent = points.filter((one) => one.state === 'running' && heardUntil - one.renewed > leaseMs);
  for (const point of silent) await again(point, 'lost', `no heartbeat of ${point.worker} in ${leaseMs / 1000} s`);
  const session = broker.session;
  if (!session) return;
  echoes.set(++echoed, Date.now());
  await session.publish(queue.eventsIn, queue.events, message('echo', { number: echoed }));
}

/** What is still out is needed no more: the queue is told, and whoever trains. */
async function callOff() {
  const left = open();
  const messages = left.filter(({ state }) => state === 'running').map(({ id, attempt }) =>
    message('stop', { point: id, attempt, kind: 'cancelled', reason: 'the target is reached' }));
  if (left.length) messages.unshift(message('cancel', { points: left.map(({ id }) => id) }));
  for (const one of messages) {
    await broker.session?.publish(queue.control, '', one).catch(() => say('no worker hears that it may stop'));
  }
}

broker.keep();
let nextBeat = 0;
while (!over()) {
  await sleep(20);
  turn = turn.then(fill).then(() => {
    if (Date.now() < nextBeat) return undefined;
    nextBeat = Date.now() + beatMs;
    return mindLeases();
  }).catch((error) => say(`trying again: ${error.message}`));
  await turn;
}
await turn;
await callOff();
await broker.close();
const winner = best();
const failed = points.filter(({ state }) => state === 'failed').length;
const shown = winner && { point: winner.id, params: winner.params, metrics: winner.metrics };
console.log(JSON.stringify({ done: done().length, failed, best: shown }));
process.exit(winner ? 0 : 1);
