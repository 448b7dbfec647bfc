"""The motion GAN in plain PyTorch, as one would write it there: weights and batches in, updated networks out."""

import torch
from torch import nn


class Generator(nn.Module):
    """Ends and noise to motion vectors."""

    def __init__(self, vector_size: int = 60, encoding: int = 40, noise: int = 40, hidden: int = 256):
        super().__init__()
        self.motion_encoder = nn.Sequential(nn.Linear(vector_size, encoding), nn.ReLU())
        self.gru = nn.GRU(noise + 2 * encoding, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Sequential(nn.Linear(2 * hidden, vector_size), nn.Tanh())

    def forward(self, first, last, noise):
        """Vectors [b, t, v] from ends [b, v] and noise [b, t, n]."""
        ends = torch.cat([self.motion_encoder(first), self.motion_encoder(last)], -1)
        ends = ends[:, None].expand(-1, noise.shape[1], -1)
        return self.linear(self.gru(torch.cat([noise, ends], -1))[0])


class Critic(nn.Module):
    """Motion vectors to one score a frame."""

    def __init__(self, vector_size: int = 60, hidden: int = 256):
        super().__init__()
        self.gru = nn.GRU(vector_size, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, 1)

    def forward(self, vectors):
        """Scores [b, t, 1]."""
        return self.linear(self.gru(vectors)[0])


class WassersteinTraining:
    """Both networks with their optimizers.

    Args:
        state: PyTorch state dicts of NumPy arrays, of `generator` and `critic`.
        clipping: clip the critic's weights; otherwise penalize its gradient.
        device: where to compute.
    """

    def __init__(self, state, *, clipping: bool, device: str):
        self.generator, self.critic = Generator().to(device), Critic().to(device)
        for name, network in (("generator", self.generator), ("critic", self.critic)):
            network.load_state_dict({key: torch.from_numpy(value) for key, value in state[name].items()})
        self.rules = [torch.optim.RMSprop(network.parameters(), lr=1e-4) for network in (self.generator, self.critic)]
        self.clipping = clipping

    def update_critic(self, real, noise, alpha) -> torch.Tensor:
        """One critic update; returns the Wasserstein estimate."""
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
        """One generator update."""
        self._step(0, -self.critic(self.generator(real[:, 0], real[:, -1], noise)).mean())

    def _step(self, index: int, loss: torch.Tensor) -> None:
        self.rules[index].zero_grad()
        loss.backward()
        self.rules[index].step()
