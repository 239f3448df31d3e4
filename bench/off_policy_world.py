"""A contextual bandit whose every policy has an exact value: finite contexts and actions, known rewards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.evaluation import reward_model
from policies.evaluation.sample import Sample

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """P(x) ``[contexts]``; q(x, a), Y(x, a), logging and target policy ``[contexts, actions]``."""

    contexts: Floats
    truth: Floats
    responses: Floats
    logging: Floats
    target: Floats

    @property
    def value(self) -> float:
        """Expected reward per turn under the target policy."""
        return float((self.contexts[:, None] * self.target * self.truth).sum())

    @property
    def logged_value(self) -> float:
        """The same under the logging policy."""
        return float((self.contexts[:, None] * self.logging * self.truth).sum())

    def draw(self, turns: int, rng: np.random.Generator) -> dict[str, npt.NDArray[np.generic]]:
        """A log of the logging policy: contexts x, actions a, rewards r."""
        x = rng.choice(len(self.contexts), turns, p=self.contexts)
        a = (self.logging.cumsum(1)[x] < rng.random((turns, 1))).sum(1)
        r = (rng.random(turns) < self.truth[x, a]).astype(float)
        return {"x": x, "a": a, "r": r}

    def sample(
        self, log: dict[str, npt.NDArray[np.generic]], *, prior_strength: float = 100.0, responses: bool = True
    ) -> Sample:
        """A log seen from the target; ``responses``: whether its model knows Y, so that it knows contexts."""
        return self.judged(log, prior_strength=prior_strength, responses=responses)[0]

    def judged(
        self, log: dict[str, npt.NDArray[np.generic]], *, prior_strength: float = 100.0, responses: bool = True
    ) -> tuple[Sample, float]:
        """The same, and what the fitted model is off by: exact, over all contexts."""
        x, a, r = log["x"].astype(np.int64), log["a"].astype(np.int64), log["r"].astype(np.float64)
        turns, actions = len(x), self.truth.shape[1]
        folds = reward_model.folds_of(np.arange(turns))
        scores = self.responses if responses else np.zeros_like(self.responses)
        model = reward_model.fit(folds, a, scores[x, a], r, actions=actions, prior_strength=prior_strength)
        pairs = np.repeat(np.arange(turns), actions)
        every = np.tile(np.arange(actions), turns)
        predicted = model.predict(folds[pairs], every, scores[x].ravel()).reshape(turns, actions)
        known = np.broadcast_to(scores, (reward_model.FOLDS, *scores.shape))
        everywhere = model.factors[:, None, :] * (known if model.by_response else 1.0)
        off = ((everywhere - self.truth) * self.target * self.contexts[:, None]).sum((1, 2))
        sample = Sample(
            rewards=r,
            weights=(self.target / self.logging)[x, a],
            model_shown=predicted[np.arange(turns), a],
            model_target=(self.target[x] * predicted).sum(1),
            before=np.ones(turns),
            clusters=np.arange(turns),
            idle=np.zeros(turns),
        )
        return sample, float(off[folds].mean())


def softmax(scores: Floats) -> Floats:
    """Row by row."""
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def world(seed: int, *, contexts: int = 12, actions: int = 8, misfit: float = 0.5) -> World:
    """Click rates of a few per cent to a third; scores that are right up to a factor e^±misfit per creative."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-2, 0.8, (contexts, actions))
    truth = 1 / (1 + np.exp(-log_odds))
    responses = np.clip(truth * np.exp(rng.normal(0, misfit, (1, actions))), 1e-4, 0.99)
    return World(
        contexts=rng.dirichlet(np.full(contexts, 3.0)),
        truth=truth,
        responses=responses,
        logging=0.7 * softmax(rng.normal(0, 0.7, (contexts, actions))) + 0.3 / actions,
        target=softmax(6 * responses + rng.normal(0, 0.4, (contexts, actions))),
    )
