r"""Generative adversarial network: a generator against a critic, relativistic and regularised.

    L(D, G) = E_{z, x} f( D(G(z)) - D(x) ),     f(t) = log(1 + e^t)

The critic minimises it, the generator minimises f with the pair exchanged. Fakes are judged against
real items and not on their own, so no group of real items can be left without fakes near it for
nothing: the loss has no mode-dropping minima (Sun et al. 2020). Zero-centred gradient penalties on
both sides,

    R1 = gamma/2 E ||grad_x D(x)||^2,      R2 = gamma/2 E ||grad_x D(G(z))||^2,

make the game converge locally where without them it can circle for ever (Mescheder et al. 2018;
Huang et al. 2024, arXiv:2501.05441: with the two together, no other trick is needed).

    z ~ N(0, I) --[generator | cond]--> x~ --(augment)--> [critic] --> phi(x~).(1 + e(cond))

With the backbone `style` each layer of the generator has a style w = f(z) of its own. A share
`mix_prob` of training items takes its styles from two latents, one up to a layer at random and the
other from there on, so that layers do not rely on one another (Karras et al. 2019); `sample` may
draw styles nearer to their mean, w~ = m + truncation (w - m), which is truer and less varied.

Little data: real and fake items pass through the same random, differentiable augmentation before
the critic sees them, each item with probability `augment_prob` (Zhao et al. 2020,
arXiv:2006.10738; below about 0.8 it does not leak into what is generated, Karras et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from morphogen.core.backbone import BuildBackbone, HasStyles
from morphogen.core.batch import Batch
from morphogen.core.conditioning import Conditioner
from morphogen.core.errors import RefusedPair
from morphogen.core.family import Family, HealthyRange
from morphogen.core.random import generator as seeded
from morphogen.core.random import rand, randn
from morphogen.core.spec import TensorSpec

# Weight of the squared middle of a pair's scores. The loss sees differences only; without it the
# scores' common offset would be left to rounding (Karras et al. 2018 keep scores near 0 so).
DRIFT = 1e-3
MEAN_OF = 256  # latents whose styles are averaged, for truncation


class GAN(Family):
    """Relativistic GAN with R1 and R2 penalties and augmentation for small data."""

    phases = ("critic", "generator")
    default_backbone = "conv"
    # Momentum would chase where the opponent was.
    train_defaults = {"lr": 1e-3, "beta1": 0.0, "beta2": 0.99, "batch_size": 32, "grad_clip": 0.0}
    papers = ("goodfellow2014generative", "jolicoeur2019relativistic", "mescheder2018which",
              "miyato2018cgans", "huang2024gan", "zhao2020differentiable", "karras2019style",
              "karras2020analyzing")  # fmt: skip
    objective = None  # neither side's loss falls while both learn
    watched = {
        "critic/gap": HealthyRange(
            "critic domination",
            "the critic is all but certain, which leaves little to learn from",
            "--set family.gamma=10, or --set family.augment_prob=0.5",
            low=-5.0,
            high=5.0,  # one pair in 150 is taken for the other
        )
    }
    compiles = False
    latent_prior = "gaussian"
    draws_means = True

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        backbone: BuildBackbone,
        *,
        latent_dim: int = 64,  # dimension of the noise that the generator starts from
        gamma: float = 1.0,  # weight of the gradient penalties
        augment_prob: float = 0.0,  # share of items augmented; 0.3 to 0.8 for a few thousand items
        flip: bool = False,  # augment by mirroring too, where a mirrored item is still an item
        mix_prob: float = 0.5,  # backbone style: share of items trained with styles of two latents
        drop_prob: float = 0.1,  # share of items trained without their conditions
        cond_dim: int = 64,  # width of the embedded conditions
    ) -> None:
        super().__init__(spec, conditions, backbone)
        continuous, cond_dim = spec.with_channels(spec.channels), cond_dim if conditions else 0
        self.latent_spec = TensorSpec.vector(latent_dim)
        self.generator = backbone(self.latent_spec, continuous, cond_dim)
        self.critic = backbone(continuous, TensorSpec.vector(max(cond_dim, 1)))
        self.generator_conditioner = Conditioner(conditions, cond_dim)
        self.critic_conditioner = Conditioner(conditions, cond_dim)
        self.gamma, self.augment_prob, self.flip = gamma, augment_prob, flip
        self.drop_prob, self.mix_prob = drop_prob, mix_prob

    @classmethod
    def refuses(cls, spec: TensorSpec, conditions: Mapping[str, TensorSpec]) -> RefusedPair | None:
        """The critic's gradient reaches the generator through the item: it must be real."""
        if spec.kind == "real":
            return None
        return RefusedPair(
            "a GAN learns through the gradient of an item, which tokens do not have",
            found=str(spec),
            expected="real values",
            hint="--family autoregressive, or --through a trained vae, whose latents are real",
        )

    def parameters_of(self, phase: str) -> Iterable[nn.Parameter]:
        """Each side has its own network and its own embedding of the conditions."""
        network = self.critic if phase == "critic" else self.generator
        conditioner = self.critic_conditioner if phase == "critic" else self.generator_conditioner
        return [*network.parameters(), *conditioner.parameters()]

    def loss(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """f of the difference of scores, real against fake; for the critic plus the penalties."""
        # A fake made for no class in particular must not be judged as one of a class: the same
        # items go without their conditions on both sides.
        keep = (rand((len(batch), 1), generator) >= self.drop_prob).to(self.device)
        fake = self._fakes(batch, keep, generator)
        if phase == "generator":
            real_score, fake_score = self._scores(batch.x, fake, batch.cond, keep, generator)
            return F.softplus(real_score - fake_score), {}
        real, fake = batch.x.detach().requires_grad_(), fake.detach().requires_grad_()
        real_score, fake_score = self._scores(real, fake, batch.cond, keep, generator)
        slopes = torch.autograd.grad(
            (real_score + fake_score).sum(), (real, fake), create_graph=True
        )
        r1, r2 = (slope.square().flatten(1).sum(1) for slope in slopes)
        adversarial = F.softplus(fake_score - real_score)
        offset = ((real_score + fake_score) / 2).square()
        gap = real_score - fake_score
        parts = {"adversarial": adversarial, "r1": r1, "r2": r2, "real": real_score, "gap": gap}
        return adversarial + 0.5 * self.gamma * (r1 + r2) + DRIFT * offset, parts

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator,
        temperature: float = 1.0,
        truncation: float = 1.0,  # backbone style: below 1, styles nearer to their mean
    ) -> Tensor:
        """One pass of the generator on `temperature` times the noise. (num, *shape)."""
        z = temperature * self._noise(num, generator)
        if self._styled is None:
            if truncation != 1:
                raise RefusedPair(
                    "only styles are truncated, and this generator has none",
                    found=f"truncation={truncation}",
                    hint="temperature=0.7 draws its noise nearer to 0; or --backbone style",
                )
            return self.grained(self.decode(z, cond))
        styles, noise = self.styles(z, cond), self._layer_noise(num, generator)
        if truncation != 1:
            mean = self._mean_styles(num, cond)
            styles = mean + truncation * (styles - mean)
        return self.grained(self._in_range(self._styled.synthesise(styles, noise)))

    def decode(self, z: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """What the generator makes of z: (B, Z) -> (B, *shape)."""
        return self._in_range(self._generate(z, cond))

    # -- styles ------------------------------------------------------------------------------------

    @property
    def _styled(self) -> HasStyles | None:
        found = self.generator
        return found if isinstance(found, HasStyles) and found.num_styles else None

    @property
    def num_styles(self) -> int:
        """Layers of the generator that are steered one by one."""
        return self._has_styles("num_styles").num_styles

    @property
    def styles(self) -> Callable[..., Tensor]:
        """Latents (B, Z), and what is said of the items -> a style for each layer (B, S, D)."""
        generator = self._has_styles("styles")

        def styles(z: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
            context = self._context(self.generator_conditioner, cond, len(z), None)
            return generator.styles(z, context)

        return styles

    @property
    def from_styles(self) -> Callable[[Tensor], Tensor]:
        """Styles (B, S, D) -> items (B, *shape), with the noise that is the same for all."""
        generator = self._has_styles("from_styles")
        return lambda styles: self._in_range(generator.synthesise(styles))

    def _has_styles(self, name: str) -> HasStyles:
        if self._styled is None:
            raise AttributeError(name)
        return self._styled

    def _mean_styles(self, num: int, cond: Mapping[str, Tensor] | None) -> Tensor:
        """The mean style of what is said of each item, over latents that are always the same."""
        z = randn((MEAN_OF, *self.latent_spec.shape), seeded(0)).to(self.device)
        if not self.conditions or not cond:
            return self.styles(z).mean(0, keepdim=True)
        means = []
        for i in range(num):
            said = {
                name: value[i].expand(MEAN_OF, *value.shape[1:]) for name, value in cond.items()
            }
            means.append(self.styles(z, said).mean(0))
        return torch.stack(means)

    def _layer_noise(self, num: int, generator: torch.Generator) -> Tensor:
        return randn((num, self._has_styles("num_noise").num_noise), generator).to(self.device)

    # -- parts -------------------------------------------------------------------------------------

    def _fakes(self, batch: Batch, keep: Tensor, generator: torch.Generator) -> Tensor:
        """A fake for each item of a batch."""
        num = len(batch)
        z = self._noise(num, generator)
        if self._styled is None:
            return self._generate(z, batch.cond, keep)
        context = self._context(self.generator_conditioner, batch.cond, num, keep)
        styles = self._styled.styles(z, context)
        if self.mix_prob > 0:
            other = self._styled.styles(self._noise(num, generator), context)
            # (B, 1): the first layer of the other's; beyond the last where an item is not mixed
            draws = rand((num, 2), generator).to(self.device)
            start = 1 + (draws[:, :1] * (self.num_styles - 1)).floor()
            start = torch.where(draws[:, 1:] < self.mix_prob, start, float(self.num_styles))
            layer = torch.arange(self.num_styles, device=self.device)
            styles = torch.where((layer < start)[..., None], styles, other)
        return self._styled.synthesise(styles, self._layer_noise(num, generator))

    def _in_range(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1) if self.spec.levels else x

    def _noise(self, num: int, generator: torch.Generator) -> Tensor:
        return randn((num, *self.latent_spec.shape), generator).to(self.device)

    def _generate(
        self, z: Tensor, cond: Mapping[str, Tensor] | None, keep: Tensor | None = None
    ) -> Tensor:
        return self.generator(z, self._context(self.generator_conditioner, cond, z.shape[0], keep))

    def _scores(
        self,
        real: Tensor,
        fake: Tensor,
        cond: Mapping[str, Tensor],
        keep: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """The critic on both, augmented, in one pass: (B, *), (B, *) -> (B,), (B,).

        Features meet the embedded condition in a scalar product (Miyato & Koyama 2018), plus what
        holds whatever the condition is: phi(x).(1 + e(cond)) / sqrt(D).
        """
        both = torch.cat(
            [augment(x, self.augment_prob, generator, flip=self.flip) for x in (real, fake)]
        )
        # Fused attention has no second derivative, which the penalties need.
        with sdpa_kernel(SDPBackend.MATH):
            features = self.critic(both)  # (2B, D), or (2B, 1) without conditions
        context = self._context(self.critic_conditioner, cond, len(real), keep)
        if context is not None:
            features = features * (1 + torch.cat([context, context]))
        real_score, fake_score = (features.sum(1) / features.shape[1] ** 0.5).chunk(2)
        return real_score, fake_score

    def _context(
        self,
        conditioner: Conditioner,
        cond: Mapping[str, Tensor] | None,
        num: int,
        keep: Tensor | None,
    ) -> Tensor | None:
        """Embedded conditions (B, D), None without any; those of "none" where not `keep` (B, 1)."""
        embedded = conditioner(cond, num)
        if not self.conditions:
            return None
        return embedded if keep is None else torch.where(keep, embedded, conditioner(None, num))


def augment(x: Tensor, prob: float, generator: torch.Generator, *, flip: bool = False) -> Tensor:
    """Shift, cut out and mirror items (B, C, *space) at random, each with `prob`; differentiable.

    Shifts go up to an eighth of an axis, filling with 0; the box cut out is half of every axis.
    Vectors, which have no space, stay as they are.
    """
    if prob <= 0 or x.dim() < 3:
        return x
    num_axes = x.dim() - 2
    # One decision per item for each kind of change, one position per axis.
    chance = rand((len(x), 3), generator).to(x) < prob
    where = rand((len(x), 2 * num_axes + 1), generator).to(x)
    cut = chance[:, 1]
    box = torch.ones_like(x[:, :1], dtype=torch.bool)
    for i in range(num_axes):
        axis, size = i + 2, x.shape[i + 2]
        index = torch.arange(size, device=x.device)
        shift = ((2 * where[:, i] - 1) * (size / 8)).round() * chance[:, 0]
        x = _shifted(x, axis, shift)
        centre = where[:, num_axes + i] * size
        inside = (index + 0.5 - centre[:, None]).abs() <= size / 4  # (B, size)
        box = box & _along(inside, axis, x)
    x = x * ~(box & _along(cut[:, None], 2, x))
    if flip:
        # Mirroring half of the items: more would only turn the data round.
        mirrored = _along((chance[:, 2] & (where[:, -1] < 0.5))[:, None], 2, x)
        x = torch.where(mirrored, x.flip(-1), x)
    return x


def _shifted(x: Tensor, axis: int, shift: Tensor) -> Tensor:
    """Item b moved by shift[b] along `axis`, zeros coming in."""
    size = x.shape[axis]
    source = torch.arange(size, device=x.device) - shift[:, None].long()  # (B, size)
    valid = (source >= 0) & (source < size)
    index = _along(source.clamp(0, size - 1), axis, x).expand_as(x)
    return x.gather(axis, index) * _along(valid, axis, x)


def _along(rows: Tensor, axis: int, like: Tensor) -> Tensor:
    """(B, n) -> (B, 1, .., n at `axis`, .., 1)."""
    shape = [len(rows), *(1,) * (like.dim() - 1)]
    shape[axis] = rows.shape[1]
    return rows.view(shape)
