// Runs one training in a thread of its own, so that the worker can answer the broker, and end it, meanwhile.

import { parentPort, workerData } from 'node:worker_threads';

const { file, params, point } = workerData;
const { train } = await import(file);
const report = (step, metrics) => parentPort.postMessage({ report: { step, metrics } });
parentPort.postMessage({ returned: await train(params, { point, report }) });
