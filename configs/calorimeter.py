"""A sampling calorimeter on the back of an envelope: its resolution, leakage, depth and cost.

Runs by itself as well: python configs/calorimeter.py
"""

import math

RADIATION_LENGTH_MM = {"lead": 5.6, "steel": 17.6, "tungsten": 3.5}
PRICE = {"lead": 1.0, "steel": 0.6, "tungsten": 4.0}
"""Of a litre, in units of one of lead."""


def simulate(params):
    """Relative energy resolution at 10 GeV, cost in thousands and depth in millimetres."""
    radiation_lengths = params["absorber_mm"] / RADIATION_LENGTH_MM[params["absorber"]]
    sampling = 0.12 * math.sqrt(radiation_lengths / params["active_mm"] * 4.0) / math.sqrt(10.0)
    depth = params["layers"] * radiation_lengths
    leakage = math.exp(-depth / 6.0)
    granularity = 0.002 * params["cell_mm"] / 10.0
    channels = params["layers"] * (1000.0 / params["cell_mm"]) ** 2
    volume = params["layers"] * params["absorber_mm"]
    return {
        "resolution": math.sqrt(sampling**2 + leakage**2 + granularity**2),
        "cost": 0.15 * PRICE[params["absorber"]] * volume + channels / 20_000.0 + params["layers"] * 0.5,
        "depth_mm": params["layers"] * (params["absorber_mm"] + params["active_mm"]),
    }


if __name__ == "__main__":
    print(simulate({"layers": 25, "absorber_mm": 3.0, "active_mm": 3.0, "cell_mm": 15.0, "absorber": "lead"}))
