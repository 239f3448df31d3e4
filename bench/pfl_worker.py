"""Users per CPU second of pfl's simulator on the network, samples and steps of ``bench.cohort``.

Runs in an environment of its own (pfl 0.6 needs dp-accounting < 0.6, Reticent needs it newer), so it imports nothing
of Reticent. Reads its workload from the command line. After every round it prints a line, ``CPU seconds a user``
behind ``MARK``, and waits for a line before the next, so that contestants can take turns.
"""

# pfl dictates these signatures.
# ruff: noqa: A002, ARG002, FBT001, FBT002

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.privacy.gaussian_mechanism import GaussianMechanism
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism
from torch.nn.functional import binary_cross_entropy_with_logits

MARK = "seconds per user:"


class Network(torch.nn.Module):
    """A linear part beside one hidden layer of rectified units: ``WideDeep`` of Reticent without categorical fields."""

    def __init__(self, numbers: int, hidden: int) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(numbers, 1)
        self.hidden = torch.nn.Linear(numbers, hidden)
        self.head = torch.nn.Linear(hidden, 1, bias=False)

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        """Logits ``[n]``."""
        return (self.wide(numeric) + self.head(self.hidden(numeric).relu())).squeeze(-1)

    def loss(self, numeric: torch.Tensor, labels: torch.Tensor, eval: bool = False) -> torch.Tensor:
        """What pfl minimises."""
        return binary_cross_entropy_with_logits(self(numeric), labels)

    @torch.no_grad()
    def metrics(self, numeric: torch.Tensor, labels: torch.Tensor, eval: bool = True) -> dict[str, Weighted]:
        """What pfl insists on, at round 0."""
        return {"loss": Weighted(float(self.loss(numeric, labels)) * len(labels), len(labels))}


class Clock(TrainingProcessCallback):
    """Says what a round took, then waits for its turn."""

    def __init__(self, users: int) -> None:
        self._users = users
        self._began = time.process_time()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: object, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Called by pfl."""
        print(MARK, (time.process_time() - self._began) / self._users, flush=True)
        done = not sys.stdin.readline()
        self._began = time.process_time()
        return done, Metrics()


def main() -> None:
    """Measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    for name in ("users", "samples", "batch", "numbers", "hidden"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)

    def user(_: int) -> Dataset:
        numeric = torch.from_numpy(rng.normal(size=(options.samples, options.numbers)).astype(np.float32))
        return Dataset((numeric, torch.from_numpy((rng.random(options.samples) < 0.3).astype(np.float32))))

    users = {name: user(name) for name in range(options.users)}
    data = FederatedDataset(users.__getitem__, MinimizeReuseUserSampler(list(users)))
    network = Network(options.numbers, options.hidden)
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(network.parameters(), 1.0))
    mechanism = CentrallyAppliedPrivacyMechanism(GaussianMechanism(1.0, 1.0))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=10**9,  # until the input ends
            evaluation_frequency=10**9,  # round 0 alone, which is not counted
            train_cohort_size=options.users,
            val_cohort_size=0,
        ),
        SimulatedBackend(data, data, [mechanism]),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.1, local_batch_size=options.batch),
        NNEvalHyperParams(local_batch_size=None),
        callbacks=[Clock(options.users)],
    )


if __name__ == "__main__":
    main()
