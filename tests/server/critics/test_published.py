"""Published judges: their numbers become scores by a stated map, and what is missing is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.stats import norm

from editcritic.server.critics import CRITICS, load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.multimodal.model import MultimodalModel
from editcritic.server.critics.published.base import JudgeCritic
from editcritic.server.critics.published.clip_iqa import ClipIqa
from editcritic.server.critics.published.editreward import EditReward, RewardHead, read_heads
from editcritic.server.critics.published.editscore import EditScore, read_scores
from editcritic.server.critics.published.q_align import QAlign
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, ServerFault
from tests.server.critics.tiny_models import build_internvl, build_qwen, build_qwen3, save_llava

Pixels = NDArray[np.uint8]


class Model:
    """A multimodal model whose answers are given."""

    name, device = "given", torch.device("cpu")

    def __init__(self, *written: str, state: Sequence[float] = (), words: Sequence[float] = ()) -> None:
        self._written, self._state, self._words = list(written), state, words
        self.shown: list[int] = []

    def plain(self, text: str) -> str:
        return text

    def first_tokens(self, words: Sequence[str]) -> list[int]:
        return list(range(len(words)))

    def word_probabilities(self, pictures: Any, question: str, words: Any, begin: str = "") -> list[float]:
        self.shown.append(len(pictures))
        return list(self._words)

    def write(self, pictures: Any, question: str, most_tokens: int) -> str:
        self.shown.append(len(pictures))
        return self._written.pop(0)

    def hidden_state(self, pictures: Any, question: str, token: str) -> torch.Tensor:
        self.shown.append(len(pictures))
        return torch.tensor(self._state)


def judge(judging: Any, prompt: str = "a cup", *, same: bool = False, progress: float | None = None) -> Any:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 200, (160, 200, 3)).astype(np.uint8)
    mask = np.zeros(source.shape[:2], np.float32)
    mask[50:110, 60:140] = 1
    image = source.copy()
    image[50:110, 60:140] += 40
    critic = JudgeCritic(judging)
    edit = DecodedEdit("edit", source, mask, prompt=prompt)
    state = None if progress is None else pb.DenoisingProgress(fraction=progress)
    candidate = DecodedCandidate("one", source if same else image, progress=state)
    return critic.critique([CritiqueTask(edit, critic.prepare(edit), candidate)], lambda: False)[0]


def test_editscore_takes_the_smaller_number_and_scales_it() -> None:
    model: Any = Model('{"reasoning": "ok", "score": [20, 15]}', '```json\n{"score": [25, 5]}\n```')
    scores = judge(EditScore(model)).scores
    assert scores.naturalness.value == pytest.approx(60)
    assert scores.prompt_alignment.value == pytest.approx(20)
    assert scores.harmony.abstention_reason == pb.ABSTENTION_REASON_NOT_JUDGED
    assert model.shown == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I'm sorry",
        '{"reasoning": "fine"}',
        '{"score": []}',
        '{"score": [20]}',
        '{"score": [20, 26]}',
        '{"score": [-1, 3]}',
        '{"score": ["20", 3]}',
        '{"score": [true, 3]}',
        '{"score": [NaN, 3]}',
        '{"score": [20, 15]',
        "[20, 15]",
    ],
)
def test_a_missing_score_is_an_error_and_never_a_middling_one(answer: str) -> None:
    with pytest.raises(ServerFault, match="no two scores"):
        read_scores(answer)
    model: Any = Model(answer)
    assert isinstance(judge(EditScore(model)), ServerFault)


def test_q_align_rates_the_region_by_the_expectation_over_five_words() -> None:
    model: Any = Model(words=[0.5, 0.5, 0, 0, 0])
    scores = judge(QAlign(model)).scores
    assert scores.naturalness.value == pytest.approx(87.5)
    assert scores.naturalness.stddev == pytest.approx(12.5)
    assert scores.prompt_alignment.abstention_reason == pb.ABSTENTION_REASON_NOT_JUDGED


def test_clip_iqa_compares_with_good_and_bad_words() -> None:
    class Space:
        name, model_type, device = "space", "fake", torch.device("cpu")

        def texts(self, texts: Sequence[str]) -> torch.Tensor:
            bad = ("Bad", "Blurry", "Synthetic", "Noisy")
            return torch.tensor([[0.0, 1.0] if text.startswith(bad) else [1.0, 0.0] for text in texts])

        def pictures(self, pictures: Sequence[Pixels]) -> torch.Tensor:
            return torch.tensor([[0.71, 0.70]])

    assert judge(ClipIqa(Space())).scores.naturalness.value == pytest.approx(100 / (1 + np.exp(-1)), rel=1e-4)


def test_editreward_gives_a_mean_and_its_own_doubt() -> None:
    double = RewardHead([(torch.eye(2), torch.zeros(2)), (torch.eye(2), torch.tensor([0.0, -1.0]))])
    plain = RewardHead([(torch.eye(2), torch.zeros(2))])
    model: Any = Model(state=[0.5, 1.0])
    scores = judge(EditReward(model, (double, plain))).scores
    assert scores.prompt_alignment.value == pytest.approx(100 * norm.cdf(0.5))
    assert scores.prompt_alignment.stddev == pytest.approx(50 * (norm.cdf(1.5) - norm.cdf(-0.5)))
    assert scores.naturalness.value == pytest.approx(100 * norm.cdf(0.5))
    assert scores.naturalness.stddev == pytest.approx(35)
    assert model.shown == [2, 2]


def test_a_head_that_is_not_finite_is_an_error() -> None:
    model: Any = Model(state=[float("nan"), 0.0])
    head = RewardHead([(torch.eye(2), torch.zeros(2))])
    assert isinstance(judge(EditReward(model, (head, head))), ServerFault)


def test_reward_heads_are_read_beside_the_weights(tmp_path: Path) -> None:
    tensors = {
        f"rm_heads.head_{number}.{place}.{part}": torch.full(shape, 0.1 * (number + 1))
        for number in (0, 1)
        for place, part, shape in (
            (0, "weight", (3, 4)),
            (0, "bias", (3,)),
            (3, "weight", (2, 3)),
            (3, "bias", (2,)),
        )
    }
    save_file(tensors, tmp_path / "model.safetensors")
    one, other = read_heads(tmp_path)
    assert one(torch.ones(4))[0] == pytest.approx(3 * 0.5 * 0.1 + 0.1)
    assert other(torch.ones(4))[0] == pytest.approx(3 * 1.0 * 0.2 + 0.2)
    save_file({"rm_head.0.weight": torch.ones(1, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidInput, match="no reward head"):
        read_heads(tmp_path)


def test_without_a_prompt_only_looks_are_judged() -> None:
    model: Any = Model('{"score": [10, 10]}')
    scores = judge(EditScore(model), prompt=" ").scores
    assert scores.naturalness.value == pytest.approx(40)
    assert scores.prompt_alignment.abstention_reason == pb.ABSTENTION_REASON_NO_PROMPT


def test_a_copy_of_the_source_is_no_edit_whatever_the_judge_says() -> None:
    model: Any = Model('{"score": [25, 25]}', '{"score": [25, 25]}')
    assert judge(EditScore(model), same=True).scores.overall.value == pytest.approx(0, abs=1)


def test_previews_are_not_shown_to_judges_of_finished_pictures() -> None:
    model: Any = Model()
    critique = judge(EditScore(model), progress=0.5)
    assert critique.scores.naturalness.abstention_reason == pb.ABSTENTION_REASON_TOO_EARLY
    assert not model.shown


@pytest.mark.parametrize("build", [EditScore, QAlign])
def test_judges_tell_their_terms(build: Any) -> None:
    info = JudgeCritic(build(Model())).info
    assert build.terms.licence in info.description
    assert ("the source" in info.description) == build.terms.sees_source
    assert info.identity.score_meaning == build.terms.meaning
    assert info.identity.name in CRITICS


@pytest.mark.parametrize("build", [build_qwen, build_qwen3, build_internvl])
def test_real_models_serve_as_judges(build: Any) -> None:
    model = MultimodalModel(*build(), "untrained")
    first, again = (judge(QAlign(model)).scores.naturalness.value for _ in range(2))
    assert first == again
    assert isinstance(judge(EditScore(model)), ServerFault)


def test_a_model_without_reward_heads_is_no_reward_model(tmp_path: Path) -> None:
    save_llava(tmp_path)
    with pytest.raises(InvalidInput, match="no reward head"):
        load_critic(f"editreward@{tmp_path}")
    heads = {f"rm_heads.head_{number}.0.weight": torch.randn(2, 64) for number in (0, 1)}
    save_file(heads, tmp_path / "reward.safetensors")
    critic: Any = load_critic(f"editreward@{tmp_path}")
    assert critic.info.identity.name == "editreward"
