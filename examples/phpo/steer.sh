#!/bin/sh
# A steering command of PanDA's kind: $1 holds all points of a segment so far, $2 takes new ones, $3 says how many are
# wanted, $4 how many there may be in all. It looks around the best point, more closely every time.
exec python3 - "$@" <<'PYTHON'
import json, random, sys

infile, outfile, n, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
asked = json.load(open(infile))
(space,) = asked["opt_space"]
segment, points = space["model_id"], asked["points"]
low, high = space["search_space"]["lr_exponent"]["bounds"]
done = sorted((loss, params["lr_exponent"]) for (_, params), loss in points if loss is not None)
middle, width = (done[0][1], (high - low) / 2 ** (len(points) / n)) if done else ((low + high) / 2, high - low)
rng = random.Random(1000 * segment + len(points))
new = []
for _ in range(min(n, most - len(points))):
    value = middle + width * (rng.random() - 0.5)
    new.append([segment, {"lr_exponent": min(max(value, low), high)}])
json.dump(new, open(outfile, "w"))
PYTHON
