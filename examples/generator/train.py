"""A loss with its minimum at a rate of 0.01 and a width of 64; widths of 8 and 16 cannot be trained at high rates."""

import math


def train(params):
    rate, width = math.log10(params["rate"]), params["width"]
    if rate > -0.5 and width <= 16:
        raise ValueError("diverged")
    return {"loss": (rate + 2) ** 2 + ((width - 64) / 32) ** 2}
