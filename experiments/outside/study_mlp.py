#!/usr/bin/env python3
"""Does a small residual network beat the best linear bridge?

    study_mlp.py OUT RECORD.json

OUT is the folder of the exports. On 500, 2,000 and all pairs of every chain: y = x M + W2 gelu(W1 x), M orthogonal or ridge and fixed, the
network's last layer zero at first. Loss: 1 - cosine, or contrast (each bridged row against all targets of its batch). A fifth of the pairs is
held out; how well each held-out row finds its own target among the targets of all pairs chooses the number of epochs (by
cross-entropy, which is smooth), the linear kind and the network (by the mean of recall@1 and MRR). All are fitted again on all
pairs. Measured are bridged queries, and dual queries whose weight is chosen on half of the queries and judged on the other half,
both ways. Finished chains are kept.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from retrieval import CHAINS, LINEAR, Centred, Truth, compare, halves, keep, kept, mixed, unit
from torch.nn import functional

SIZES = [500, 2000, None]
HELD_OUT = 5
HIDDEN, BATCH, EPOCHS, PATIENCE = 256, 128, 20, 3
RATE, DECAY, DROPOUT, TEMPERATURE = 1e-3, 1e-2, 0.1, 0.05
WEIGHTS = [0, 0.25, 0.5, 0.75, 1]
BASES = {"orthogonal": "orthogonal", "ridge": "ridge:0.001"}
LOSSES = ["cosine", "contrast"]


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float32)


class Network(torch.nn.Module):
    """Adds its correction to what the fixed map gives."""

    def __init__(self, source, target):
        super().__init__()
        # Unit rows of many dimensions have tiny entries; the layers want them near 1.
        self.scale, self.back = source**0.5, target**-0.5
        self.inner, self.outer = torch.nn.Linear(source, HIDDEN), torch.nn.Linear(HIDDEN, target)
        torch.nn.init.zeros_(self.outer.weight)
        torch.nn.init.zeros_(self.outer.bias)

    def forward(self, x, mapped):
        inner = functional.dropout(functional.gelu(self.inner(x * self.scale)), DROPOUT, self.training)
        return functional.normalize(mapped + self.outer(inner) * self.back, dim=1)

    @torch.inference_mode()
    def bridged(self, rows, base):
        self.eval()
        return self(tensor(rows), tensor(rows @ base)).numpy()


def scores_of_targets(bridged, targets):
    return bridged.astype(np.float32) @ targets.T.astype(np.float32)


def found(bridged, targets, own):
    """Mean of recall@1 and MRR of finding the own target."""
    scores = scores_of_targets(bridged, targets)
    rank = (scores > scores[np.arange(len(own)), own][:, None]).sum(axis=1)
    return ((rank == 0).mean() + (1 / (1 + rank)).mean()) / 2


def surprise(bridged, targets, own):
    scores = tensor(scores_of_targets(bridged, targets)) / TEMPERATURE
    return functional.cross_entropy(scores, torch.tensor(own)).item()


def train(x, y, base, loss, epochs, judge=None):
    """Trains for so many epochs, or with `judge` until it no longer falls. Returns the network, and the best of its states if judged."""
    torch.manual_seed(0)
    network = Network(x.shape[1], y.shape[1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    x, mapped, y = tensor(x), tensor(x @ base), tensor(y)
    best = (judge(network), 0, None) if judge else None
    for epoch in range(1, epochs + 1):
        network.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            out, target = network(x[rows], mapped[rows]), y[rows]
            if loss == "cosine":
                value = (1 - (out * target).sum(dim=1)).mean()
            else:
                value = functional.cross_entropy(out @ target.T / TEMPERATURE, torch.arange(len(rows)))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        if judge:
            now = judge(network)
            if now < best[0]:
                best = now, epoch, {name: one.clone() for name, one in network.state_dict().items()}
            elif epoch - best[1] >= PATIENCE:
                break
    if judge and best[2]:
        network.load_state_dict(best[2])
    return network, best[1] if judge else epochs


def fit_all(x, y):
    """Every linear kind and network: held-out value, epochs, and a function of rows fitted on all pairs."""
    order = np.random.default_rng(0).permutation(len(x))
    held_out, left = order[::HELD_OUT], np.setdiff1d(order, order[::HELD_OUT])
    tried = {}
    parts, whole = ({kind: fit(x[rows], y[rows]) for kind, fit in LINEAR.items()} for rows in (left, order))
    for kind, part in parts.items():
        value = found(unit(x[held_out] @ part), y, held_out)
        tried[kind] = {"held_out": value}, lambda rows, kind=kind: unit(rows @ whole[kind])
    for base, kind in BASES.items():
        for loss in LOSSES:
            started = time.monotonic()
            judge = lambda network: surprise(network.bridged(x[held_out], parts[kind]), y, held_out)  # noqa: B023, E731
            network, epochs = train(x[left], y[left], parts[kind], loss, EPOCHS, judge)
            value = found(network.bridged(x[held_out], parts[kind]), y, held_out)
            # A network that is best untrained is its base; one epoch, so that a network is measured.
            network, _ = train(x, y, whole[kind], loss, max(epochs, 1))
            bridge = lambda rows, network=network, kind=kind: network.bridged(rows, whole[kind])  # noqa: E731
            tried[f"mlp on {base}, {loss}"] = {"held_out": value, "epochs": epochs}, bridge
            print(f"  mlp on {base}, {loss}: {value:.4f} after {epochs} epochs, {time.monotonic() - started:.0f} s", flush=True)
    return tried


def dual(truth, old, bridged, gallery):
    """Measures of each query's dual query, its weight chosen on the other half."""
    parts = [truth.scores(queries, gallery) for queries in (old, bridged)]
    measured = np.stack([truth.judge(mixed([w, 1 - w], parts)) for w in WEIGHTS])
    result, chosen = np.empty_like(measured[0]), []
    for judged in halves(measured.shape[2], 0):
        best = measured[:, :, ~judged].mean(axis=(1, 2)).argmax()
        result[:, judged] = measured[best][:, judged]
        chosen.append(WEIGHTS[best])
    return result, chosen


def main(exports, record):
    torch.set_num_threads(1)
    record = Path(record)
    rows = kept(record)
    done = {(row["chain"], row["pairs"]) for row in rows}
    fits = {}
    for size in SIZES:
        for chain, old_name, new_name in CHAINS:
            old, new = (Centred(exports, chain, name, size) for name in (old_name, new_name))
            if (chain, len(old.fit)) in done:
                continue
            print(f"{chain}, {len(old.fit)} pairs", flush=True)
            # Chains may share their fit set.
            key = hash(new.fit.tobytes())
            if key not in fits:
                fits[key] = fit_all(new.fit, old.fit)
            tried = fits[key]
            truth = Truth(exports, chain, old_name)
            alone = {name: truth.measure(bridge(new.queries), old.gallery) for name, (_, bridge) in tried.items()}
            kinds = [[name for name in tried if (name in LINEAR) == linear] for linear in (True, False)]
            chosen = [max(names, key=lambda name: tried[name][0]["held_out"]) for names in kinds]
            duals = [dual(truth, old.queries, tried[name][1](new.queries), old.gallery) for name in chosen]
            rows.append({
                "chain": chain,
                "pairs": len(old.fit),
                "linear": chosen[0],
                "network": chosen[1],
                "tried": {name: {**values, "bridged": list(alone[name].mean(axis=1))} for name, (values, _) in tried.items()},
                "bridged": compare(truth.measures, alone[chosen[1]], alone[chosen[0]]),
                "dual": compare(truth.measures, duals[1][0], duals[0][0]),
                "weights": [weights for _, weights in duals],
            })
            keep(record, rows)
            for way in ("bridged", "dual"):
                print(f"  {way}, {chosen}", [f"{one['reference']:.3f} {one['margin']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" for one in rows[-1][way]], flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
