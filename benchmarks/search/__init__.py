"""Search methods beside those of other libraries, on the same problems, seeds and batches, in one run.

    python -m benchmarks.search --problems branin,hartmann6 --contenders bayesian,optuna-tpe,random --seeds 10
    python -m benchmarks.search --list

A *problem* has a space and values that are to be minimised; a *contender* proposes points and is told what came of
them; a *task* is one contender on one problem with one seed. `race` runs a task, `pool` runs many of them, and
`figures` compares what came out.

* **Regret** with one objective: the noiseless value of the best point so far less the best value known. The best
  point is the one with the best *observed* value: where observations are noisy that is what a user would take, and
  luck is not rewarded. Points that are invalid or break a constraint do not count; a run without any other point
  has the regret of a typical random point.
* **Regret** with several: the largest hypervolume known less that of all points so far, by their noiseless values,
  as BoTorch's tutorials count it.
* **The best known** is the proven optimum, or for trainings and approximated fronts the better of a stored figure
  and the best of all runs compared.
* **The floor**: regrets below it count as the floor, so that ratios between two contenders that have both arrived
  mean nothing. It is a millionth of the problem's scale (the regret of a typical random point, or the largest
  hypervolume), a ten-thousandth for approximated fronts, and a thousandth of the scale for trainings.
* **The ratio** of a contender on a problem: its median regret over the seeds, by that of the problem's best peer.
  Peers are the contenders that are not ours.
"""
