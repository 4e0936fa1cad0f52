"""A small GAN of fully connected layers, as the training of a benchmark: it says when it began and ended."""

from __future__ import annotations

import time
from itertools import pairwise

import torch
from torch import nn

_NOISE, _WIDTH, _OUTPUTS, _BATCH = 50, 256, 368, 1024
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _layers(*sizes: int) -> nn.Sequential:
    pairs = pairwise(sizes)
    return nn.Sequential(*[part for a, b in pairs for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))][:-1])


def train(params: dict[str, float]) -> dict[str, float]:
    """Trains one for ``steps`` steps on showers of noise.

    Returns:
        ``loss``: the critic's last; ``began``, ``ended``: seconds since the epoch; ``train_s``: the steps alone.
    """
    began = time.time()
    torch.manual_seed(0)
    width = int(_WIDTH * params["width"])
    generator = _layers(_NOISE, width, width, _OUTPUTS).to(DEVICE)
    critic = _layers(_OUTPUTS, width, width, 1).to(DEVICE)
    ours = torch.optim.Adam(generator.parameters(), lr=1e-4)
    theirs = torch.optim.Adam(critic.parameters(), lr=1e-4)
    real = torch.rand(16 * _BATCH, _OUTPUTS, device=DEVICE)
    first = time.time()
    loss = torch.zeros(())
    for step in range(int(params["steps"])):
        rows = real[(step % 16) * _BATCH : (step % 16 + 1) * _BATCH]
        fake = generator(torch.randn(_BATCH, _NOISE, device=DEVICE))
        loss = critic(fake.detach()).mean() - critic(rows).mean()
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        if step % 5 == 0:
            ours.zero_grad()
            (-critic(fake).mean()).backward()
            ours.step()
    value = float(loss)  # waits for the GPU
    ended = time.time()
    return {"loss": value, "began": began, "ended": ended, "train_s": ended - first}
