"""A parabola whose minimum each model has somewhere else."""


def train(params):
    # lr and width are tuned; centre and scale are constants of the model
    miss = (params["lr"] - params["centre"]) ** 2 + (params["width"] / 100 - params["centre"]) ** 2
    return {"loss": params["scale"] * miss}
