"""A small convolutional network on scikit-learn's handwritten digits: 1,797 pictures of 8 x 8 pixels.

After every epoch it saves what it needs to go on, and then reports its error. So an attempt that is preempted goes on
where it was, on this machine or another, and a bad one can be ended early.
"""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn

import hpo_steer

EPOCHS = 12
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPTIMISERS = {"adam": torch.optim.AdamW, "sgd": torch.optim.SGD}


@cache
def data():
    """Pictures and digits to train with, and to judge by: two thirds and one third, on the device.

    Loaded once where a child process takes many points (`reuse: true`).
    """
    pictures, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    x = (torch.tensor(pictures, dtype=torch.float32)[order] / 16).reshape(-1, 1, 8, 8).to(DEVICE)
    y = torch.tensor(digits)[order].to(DEVICE)
    cut = 2 * len(y) // 3
    return x[:cut], y[:cut], x[cut:], y[cut:]


def network(width, dropout):
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8 * width, 10),
    ).to(DEVICE)


def train(params):
    """Trains one network.

    Args:
        params: ``lr``, ``width``, ``dropout``, ``batch``, ``optimiser``, and ``momentum`` for ``sgd``.

    Returns:
        The share of wrong digits among those it was not trained with, and the number of weights.
    """
    torch.manual_seed(hpo_steer.point().id)
    x, y, test_x, test_y = data()
    model = network(params["width"], params["dropout"])
    extra = {"momentum": params["momentum"]} if params["optimiser"] == "sgd" else {}
    optimiser = OPTIMISERS[params["optimiser"]](model.parameters(), lr=params["lr"], **extra)
    saved = hpo_steer.checkpoint_dir() / "state.pt"
    done, error = 0, 1.0
    if saved.exists():
        state = torch.load(saved, map_location=DEVICE, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done, error = state["epoch"], state["error"]
        print(f"goes on after epoch {done}")
    for epoch in range(done + 1, EPOCHS + 1):
        model.train()
        for rows in torch.randperm(len(y), device=DEVICE).split(params["batch"]):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            error = (model(test_x).argmax(1) != test_y).float().mean().item()
        print(f"epoch {epoch}: {100 * error:.1f} % wrong")
        state = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "epoch": epoch,
            "error": error,
        }
        torch.save(state, saved.with_suffix(".new"))
        saved.with_suffix(".new").rename(saved)  # an attempt may end at any moment: half a file is of no use
        hpo_steer.report(step=epoch, error=error)
    return {"error": error, "weights": sum(p.numel() for p in model.parameters())}
