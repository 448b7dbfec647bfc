"""The motion GAN and its training in plain PyTorch, as a reference for timings."""

import torch
from torch import nn


class Generator(nn.Module):
    """Generates motion vectors from the first and last vector and noise."""

    def __init__(self, vector_size: int = 60, encoding: int = 40, noise: int = 40, hidden: int = 256):
        super().__init__()
        self.motion_encoder = nn.Sequential(nn.Linear(vector_size, encoding), nn.ReLU())
        self.gru = nn.GRU(noise + 2 * encoding, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Sequential(nn.Linear(2 * hidden, vector_size), nn.Tanh())

    def forward(self, first, last, noise):
        """Return vectors [b, t, v] from the first and last [b, v] and noise [b, t, n]."""
        ends = torch.cat([self.motion_encoder(first), self.motion_encoder(last)], -1)
        ends = ends[:, None].expand(-1, noise.shape[1], -1)
        return self.linear(self.gru(torch.cat([noise, ends], -1))[0])


class Critic(nn.Module):
    """Rates motion vectors, with one score per frame."""

    def __init__(self, vector_size: int = 60, hidden: int = 256):
        super().__init__()
        self.gru = nn.GRU(vector_size, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, 1)

    def forward(self, vectors):
        """Return scores [b, t, 1] of vectors [b, t, v]."""
        return self.linear(self.gru(vectors)[0])


class WassersteinTraining:
    """Both networks with their optimizers.

    Args:
        state: state dicts of `generator` and `critic`, as NumPy arrays.
        clipping: clip the critic's weights; otherwise penalize its gradient.
        device: PyTorch device to compute on.
    """

    def __init__(self, state, *, clipping: bool, device: str):
        self.generator, self.critic = Generator().to(device), Critic().to(device)
        for name, network in (("generator", self.generator), ("critic", self.critic)):
            network.load_state_dict({key: torch.from_numpy(value) for key, value in state[name].items()})
        self.rules = [torch.optim.RMSprop(network.parameters(), lr=1e-4) for network in (self.generator, self.critic)]
        self.clipping = clipping

    def update_critic(self, real, noise, alpha) -> torch.Tensor:
        """Update the critic once on vectors [b, t, v]; return the Wasserstein estimate before the update.

        `alpha` [b, t, 1] in [0, 1] interpolates between real and generated vectors for the gradient penalty.
        """
        with torch.no_grad():
            fake = self.generator(real[:, 0], real[:, -1], noise)
        distance = self.critic(real).mean() - self.critic(fake).mean()
        loss = -distance
        if not self.clipping:
            between = (alpha * real + (1 - alpha) * fake).requires_grad_()
            (gradient,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
            loss = loss + 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        self._step(1, loss)
        if self.clipping:
            with torch.no_grad():
                for weight in self.critic.parameters():
                    weight.clamp_(-0.01, 0.01)
        return distance.detach()

    def update_generator(self, real, noise) -> None:
        """Update the generator once."""
        self._step(0, -self.critic(self.generator(real[:, 0], real[:, -1], noise)).mean())

    def _step(self, index: int, loss: torch.Tensor) -> None:
        self.rules[index].zero_grad()
        loss.backward()
        self.rules[index].step()
