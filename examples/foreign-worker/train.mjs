// The training. It gets the parameters of a point, and returns its metrics. Replace it by yours.

import { setTimeout as sleep } from 'node:timers/promises';

export async function train({ x, k }, { report }) {
  const seconds = Number(process.env.TRAIN_SECONDS ?? 0.05);
  for (let step = 1; step <= 4; step++) {
    await sleep(250 * seconds);
    report(step, { loss: (x - 0.3) ** 2 + (k - 4) ** 2 / 100 + 1 / step });
  }
  return { loss: (x - 0.3) ** 2 + (k - 4) ** 2 / 100 };
}
