"""torchcfm's U-Net with optimal-transport flow matching, as in its MNIST example, under a clock."""

from __future__ import annotations

import time

import torch
from _common import arguments, batches, images, save
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchcfm.models.unet import UNetModel

BATCH_SIZE = 128
# Heun steps when sampling: after so short a training more steps change nothing that counts.
NUM_STEPS = 5


def main() -> None:
    """Train, sample, save."""
    given = arguments()
    train = images(given.data, "train-images-idx3-ubyte.gz") * 2 - 1
    model = UNetModel(dim=(1, 28, 28), num_channels=32, num_res_blocks=1)
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps, started = 0, time.perf_counter()
    for x in batches(train, BATCH_SIZE, given.seconds):
        t, x_t, u_t = matcher.sample_location_and_conditional_flow(torch.randn_like(x), x)
        loss = (model(t, x_t) - u_t).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    seconds = time.perf_counter() - started
    model.eval()
    samples = []
    with torch.no_grad():
        for num in [250] * (given.num // 250):
            x = torch.randn(num, 1, 28, 28)
            for i in range(NUM_STEPS):  # torchcfm runs from noise at 0 to data at 1
                t, h = torch.full((num,), i / NUM_STEPS), 1 / NUM_STEPS
                slope = model(t, x)
                ahead = model(t + h, x + h * slope)
                x = x + h * 0.5 * (slope + ahead)
            samples.append(x)
    facts = {"peer": "torchcfm OT-CFM U-Net", "steps": steps, "seconds": seconds}
    save(given.out, torch.cat(samples) / 2 + 0.5, **facts)


if __name__ == "__main__":
    main()
