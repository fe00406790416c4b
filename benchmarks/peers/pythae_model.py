"""pythae's models with its own convolutional networks for 28 x 28 pictures, under a clock.

`--model vae` samples from the prior, `--model iwae` trains with 10 importance samples, and
`--model rae` is the regularised autoencoder with a Gaussian-mixture sampler, its best published
pair on MNIST.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import torch
from _common import arguments, batches, images, save
from pythae.models import IWAE, RAE_L2, VAE, IWAEConfig, RAE_L2_Config, VAEConfig
from pythae.models.nn.benchmarks.mnist import (
    Decoder_Conv_AE_MNIST,
    Encoder_Conv_AE_MNIST,
    Encoder_Conv_VAE_MNIST,
)
from pythae.samplers import GaussianMixtureSampler, GaussianMixtureSamplerConfig

LATENT_DIM = 16
BATCH_SIZE = 128


def build(name: str) -> torch.nn.Module:
    """A model in pythae's benchmark setting."""
    common = {"input_dim": (1, 28, 28), "latent_dim": LATENT_DIM}
    if name == "rae":
        config = RAE_L2_Config(**common)
        return RAE_L2(config, Encoder_Conv_AE_MNIST(config), Decoder_Conv_AE_MNIST(config))
    if name == "iwae":
        config = IWAEConfig(**common, number_samples=10)
        return IWAE(config, Encoder_Conv_VAE_MNIST(config), Decoder_Conv_AE_MNIST(config))
    config = VAEConfig(**common, reconstruction_loss="mse")
    return VAE(config, Encoder_Conv_VAE_MNIST(config), Decoder_Conv_AE_MNIST(config))


@torch.no_grad()
def bits_per_dim(model: VAE, x: torch.Tensor, sigma: float, num_samples: int = 64) -> float:
    """Importance-weighted bound (Burda et al. 2016) with a Gaussian likelihood of width `sigma`.

    pythae's own bound fixes sigma at 1; fitting it on the training images is to its favour. The
    density is turned into the probability of an 8-bit level by its width, 1/255.
    """
    encoded = model.encoder(x)
    mu, std = encoded.embedding, torch.exp(0.5 * encoded.log_covariance)
    terms = []
    for _ in range(num_samples):
        eps = torch.randn_like(std)
        z = mu + std * eps
        error = (x - model.decoder(z).reconstruction).square().flatten(1).sum(1)
        dim = x[0].numel()
        log_x = -0.5 * error / sigma**2 - dim * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
        log_ratio = 0.5 * (eps.square() - z.square()).sum(1) + torch.log(std).sum(1)
        terms.append(log_x + log_ratio - dim * math.log(255))
    bound = torch.logsumexp(torch.stack(terms), 0) - math.log(num_samples)
    return float(-bound.mean() / (x[0].numel() * math.log(2)))


def main() -> None:
    """Train, sample, save."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model", choices=("vae", "rae", "iwae"), default="vae")
    own, rest = parser.parse_known_args()
    sys.argv = [sys.argv[0], *rest]
    given = arguments()
    train = images(given.data, "train-images-idx3-ubyte.gz")
    test = images(given.data, "t10k-images-idx3-ubyte.gz")
    model = build(own.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps, started = 0, time.perf_counter()
    model.train()
    for x in batches(train, BATCH_SIZE, given.seconds):
        loss = model({"data": x}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    seconds = time.perf_counter() - started
    model.eval()
    facts = {"peer": f"pythae {own.model}", "steps": steps, "seconds": seconds}
    with torch.no_grad():
        if own.model == "rae":
            sampler = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=10))
            sampler.fit(train[:10_000])
            samples = sampler.sample(given.num, batch_size=500, return_gen=True)
        else:
            z = torch.randn(given.num, LATENT_DIM)
            samples = torch.cat([model.decoder(part).reconstruction for part in z.split(500)])
            errors = [
                (x - model.decoder(model.encoder(x).embedding).reconstruction).square().mean()
                for x in train[:2000].split(500)
            ]
            sigma = float(torch.stack(errors).mean().sqrt())
            bounds = [bits_per_dim(model, x, sigma) for x in test[:2000].split(500)]
            facts["bits_per_dim"] = sum(bounds) / len(bounds)
    save(given.out, samples.cpu(), **facts)


if __name__ == "__main__":
    main()
