"""The HOC loss for PyTorch.

    loss = HocLoss(dim=embedding_dim)
    loss(model(images), old_model(images).detach(), labels).backward()

The embedding layer has ``dim`` outputs and no bias; its outputs are not normalised. The classifier is the simplex, which is never trained, so
the model needs no other head. Class ``y`` has vertex ``dim - y`` unless ``vertices`` are passed. The tests hold it against the golden values.

Source: arXiv 2405.02581.
"""

import torch
from torch import nn
from torch.nn import functional

import perennial


class HocLoss(nn.Module):
    """``weight * cross-entropy + (1 - weight) * contrastive``; ``perennial.hoc_loss`` describes the parameters."""

    def __init__(self, dim: int, weight: float = 0.1, mu: float = 10.0, masking: str = "excluded") -> None:
        super().__init__()
        if masking not in ("excluded", "zeroed"):
            raise ValueError(f'masking {masking!r}: use "excluded" or "zeroed"')
        self.dim, self.weight, self.mu, self.masking = dim, weight, mu, masking
        # Moves with the module, and is no part of its state.
        self.register_buffer("prototypes", torch.from_numpy(perennial.simplex_prototypes(dim)), persistent=False)

    def forward(self, new: torch.Tensor, old: torch.Tensor, labels: torch.Tensor, vertices: torch.Tensor | None = None) -> torch.Tensor:
        """``new`` and ``old`` ``[n, dim]`` are features of the same images, ``labels`` ``[n]`` their classes."""
        # Wide first: of labels that are bytes, `dim - labels` would be taken modulo 256.
        vertices = self.dim - labels.long() if vertices is None else vertices.long()
        cross_entropy = functional.cross_entropy(new @ self.prototypes.T, vertices)
        if self.weight == 1:
            return cross_entropy
        return self.weight * cross_entropy + (1 - self.weight) * self.contrastive(new, old.detach(), labels)

    def contrastive(self, new: torch.Tensor, old: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Pulls each new feature towards the old one of the same image, and away from old ones of other classes."""
        similarity = self.mu * functional.normalize(old) @ functional.normalize(new).T
        others = labels[:, None] != labels[None, :]
        counted = others.any(dim=1)
        masked = similarity.masked_fill(~others, float("-inf") if self.masking == "excluded" else 0.0)
        # A row without another class would be the logarithm of nothing: it adds nothing.
        masked = masked.masked_fill(~counted[:, None], 0.0)
        losses = torch.logsumexp(masked, dim=1) - similarity.diagonal()
        return torch.where(counted, losses, 0.0).mean()
