"""The flow-matching motion model and its training step in plain PyTorch, for comparison.

The modules have the names of `vidcomp_jax.motion.flow` and `vidcomp_jax.nn.transformer`, so that weights can be moved
over by name.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return the normalized input, scaled and shifted by the condition."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def rotated(x: Tensor, times: Tensor) -> Tensor:
    """Apply rotary embeddings to x [b, t, n, h] at times [b or 1, t]."""
    half = x.shape[-1] // 2
    frequency = 100.0 ** (-torch.arange(half, device=x.device) / half)
    angle = times[..., None, None] * frequency
    first, second = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Block(nn.Module):
    """A transformer block with adaLN-Zero."""

    def __init__(self, width: int, num_heads: int, feed_forward: int):
        super().__init__()
        self.num_heads = num_heads
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward_in = nn.Linear(width, feed_forward)
        self.feed_forward_out = nn.Linear(feed_forward, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """Apply the block."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(condition).chunk(6, -1)
        x = x + gate[:, None] * self.attend(modulated(x, shift, scale), times)
        hidden = F.gelu(self.feed_forward_in(modulated(x, shift2, scale2)), approximate="tanh")
        return x + gate2[:, None] * self.feed_forward_out(hidden)

    def attend(self, x: Tensor, times: Tensor) -> Tensor:
        """Attend to all frames."""
        b, t, width = x.shape
        query, key, value = self.attention_in(x).reshape(b, t, 3, self.num_heads, -1).unbind(2)
        query, key, value = (y.transpose(1, 2) for y in (rotated(query, times), rotated(key, times), value))
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.attention_out(attended.transpose(1, 2).reshape(b, t, width))


class Transformer(nn.Module):
    """Blocks between a linear input and a linear output layer."""

    def __init__(self, in_features: int, out_features: int, width: int, layers: int, heads: int, feed_forward: int):
        super().__init__()
        self.embed = nn.Linear(in_features, width)
        self.blocks = nn.ModuleList(Block(width, heads, feed_forward) for _ in range(layers))
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, out_features)

    def forward(self, tokens: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """Transform the tokens [b, t, i]."""
        condition = F.silu(condition)
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, times, condition)
        return self.output(modulated(x, *self.modulation(condition).chunk(2, -1)))


class OffsetNetwork(nn.Module):
    """Predicts offsets from noisy ones and what surrounds them."""

    def __init__(self, in_features: int, vector_size: int, width: int, layers: int, heads: int, feed_forward: int):
        super().__init__()
        self.width = width
        self.embed_level = nn.Linear(width, width)
        self.transformer = Transformer(in_features, vector_size, width, layers, heads, feed_forward)

    def forward(self, noisy: Tensor, level: Tensor, context: Tensor, times: Tensor) -> Tensor:
        """Predict offsets [b, t, v]."""
        half = self.width // 2
        angle = 1000 * level[:, None] * 1000.0 ** (-torch.arange(half, device=level.device) / half)
        condition = self.embed_level(torch.cat([angle.cos(), angle.sin()], -1))
        return self.transformer(torch.cat([noisy, context], -1), times, condition)


class FlowTraining:
    """The training step between two known ends: loss, clipped gradient, AdamW and a moving average of the weights."""

    def __init__(
        self, network: OffsetNetwork, learning_rate: float, weight_decay: float, average_decay: float, device: str
    ):
        self.network, self.average_decay = network.to(device), average_decay
        self.average = [weight.detach().clone() for weight in network.parameters()]
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay
        )

    def loss(self, offsets: Tensor, context: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Return the loss on offsets [b, t, v] that are zero in the first and last frame."""
        tau = level[:, None, None]
        noisy = (1 - tau) * noise + tau * offsets
        noisy = torch.cat([offsets[:, :1], noisy[:, 1:-1], offsets[:, -1:]], 1)
        times = torch.arange(offsets.shape[1], dtype=torch.float32, device=offsets.device)[None]
        error = self.network(noisy, level, context, times) - offsets
        error = F.pad(error[:, 1:-1], (0, 0, 1, 1))
        unknown = offsets.shape[1] - 2
        return (error.square().sum(1).mean() + 0.1 * error.diff(dim=1).square().sum(1).mean()) / unknown

    def step(self, offsets: Tensor, context: Tensor) -> Tensor:
        """Update the weights once; return the loss."""
        level = torch.randn(len(offsets), device=offsets.device).sigmoid()
        loss = self.loss(offsets, context, level, torch.randn_like(offsets))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        weights = [weight.detach() for weight in self.network.parameters()]
        torch._foreach_lerp_(self.average, weights, 1 - self.average_decay)
        return loss.detach()
