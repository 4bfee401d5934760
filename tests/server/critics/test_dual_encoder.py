"""A dual encoder as a critic: what it says with a space made of colours, and that CLIP and SigLIP are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.dual_encoder.critic import DualEncoderCritic
from editcritic.server.critics.dual_encoder.encoder import DualEncoder
from editcritic.server.critics.dual_encoder.phrases import MAX_PHRASES, split_phrases
from editcritic.server.critics.spec import LoadOptions
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput
from editcritic.v1.images import decode_mask_file
from tests.server.critics.tiny_encoders import save_encoder, save_parts

COLOURS = {"red": (215, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 215)}


class ColourEncoder:
    """Its space is the colour: words of colours are their colours, every other text is far from any."""

    name, model_type, device = "colours", "colours", torch.device("cpu")

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.cat([self._text(text) for text in texts])

    def pictures(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.cat([_point(picture.reshape(-1, 3).mean(0)) for picture in pictures])

    def _text(self, text: str) -> torch.Tensor:
        named = [_point(COLOURS[word]) for word in text.split() if word in COLOURS]
        if named:
            return F.normalize(torch.cat(named).mean(0, keepdim=True), dim=-1)
        noise = torch.randn(1, 4, generator=torch.Generator().manual_seed(sum(map(ord, text))))
        return F.normalize(noise * 0.3 - torch.tensor([[0.0, 0.0, 0.0, 1.0]]), dim=-1)


def _point(colour: Any) -> torch.Tensor:
    levels = torch.as_tensor(np.asarray(colour, np.float32)) / 127.5 - 1
    return F.normalize(torch.cat([2 * levels, torch.tensor([0.3])])[None], dim=-1)


@pytest.fixture(scope="module")
def critic() -> DualEncoderCritic:
    return DualEncoderCritic(ColourEncoder())


Judge = Callable[..., pb.Critique]


@pytest.fixture
def judge(critic: DualEncoderCritic) -> Judge:
    """Judge an inside of one colour, in the middle of grain, against a prompt."""

    def asked(prompt: str, colour: str, *, heat_map: bool = False, progress: float | None = None) -> Any:
        rng = np.random.default_rng(0)
        source = rng.integers(90, 160, (120, 160, 3)).astype(np.uint8)
        mask = np.zeros((120, 160), np.float32)
        mask[30:90, 50:110] = 1
        image = source.copy()
        image[24:96, 44:116] = np.clip(COLOURS[colour] + rng.normal(0, 20, (72, 72, 3)), 0, 255)
        edit = DecodedEdit("edit", source, mask, prompt=prompt)
        state = None if progress is None else pb.DenoisingProgress(fraction=progress)
        candidate = DecodedCandidate("one", image, progress=state)
        task = CritiqueTask(edit, critic.prepare(edit), candidate, pb.CritiqueOptions(heat_map=heat_map))
        (outcome,) = critic.critique([task], lambda: False)
        return outcome

    return asked


@pytest.mark.parametrize("colour", COLOURS)
def test_the_right_word_scores_above_every_wrong_one(judge: Judge, colour: str) -> None:
    right = judge(colour, colour).scores.prompt_alignment.value
    wrong = [judge(other, colour).scores.prompt_alignment.value for other in COLOURS if other != colour]
    assert right > 50
    assert right > 1.5 * max(wrong)


def test_only_the_prompt_is_judged(judge: Judge) -> None:
    scores = judge("red", "red").scores
    assert scores.naturalness.status == pb.SCORE_STATUS_ABSTAINED
    assert scores.naturalness.abstention_reason == pb.ABSTENTION_REASON_NOT_JUDGED
    assert scores.overall.value == pytest.approx(scores.prompt_alignment.value)


def test_a_missing_phrase_is_named_with_where_it_is_missing(judge: Judge) -> None:
    critique = judge("a red and a blue", "red", heat_map=True)
    (defect,) = critique.defects
    assert defect.kind == pb.DEFECT_KIND_PROMPT_MISMATCH
    assert "'blue' asked" in defect.explanation
    assert defect.severity >= 0.3
    assert {action.kind for action in defect.actions}
    joined = critique.heat_maps[0]
    assert (joined.region.x, joined.region.y) == (43, 23)
    heat = decode_mask_file(joined.image.encoded.data)
    assert heat[20:40, 20:40].min() > 0.1
    assert heat[0].max() == 0


def test_a_prompt_that_is_followed_has_no_defect_and_no_map(judge: Judge) -> None:
    critique = judge("red", "red", heat_map=True)
    assert not critique.defects
    assert not critique.heat_maps
    assert critique.explanation.startswith("No fault found")


@pytest.mark.parametrize(
    ("prompt", "progress", "reason"),
    [
        ("", None, pb.ABSTENTION_REASON_NO_PROMPT),
        ("remove the dog", None, pb.ABSTENTION_REASON_NO_PROMPT),
        ("red", 0.1, pb.ABSTENTION_REASON_TOO_EARLY),
    ],
)
def test_what_cannot_be_compared_gets_no_number(
    judge: Judge, prompt: str, progress: float | None, reason: int
) -> None:
    critique = judge(prompt, "red", progress=progress)
    assert critique.scores.prompt_alignment.status == pb.SCORE_STATUS_ABSTAINED
    assert critique.scores.prompt_alignment.abstention_reason == reason
    assert critique.scores.prompt_alignment.abstention_detail in critique.explanation


def test_every_phrase_is_told(judge: Judge) -> None:
    told = {each.name: each.value for each in judge("a red and a blue", "red").measurements}
    assert list(told) == ["phrase: red", "phrase: blue", "phrase: a red and a blue"]
    assert told["phrase: red"] > 0.5 > told["phrase: blue"]


@pytest.mark.parametrize("shape", [(40, 400), (400, 40), (64, 64)])
def test_thin_and_whole_masks_are_judged(critic: DualEncoderCritic, shape: tuple[int, int]) -> None:
    edit = DecodedEdit("edit", np.zeros((*shape, 3), np.uint8), np.ones(shape, np.float32), prompt="red")
    candidate = DecodedCandidate("one", np.full((*shape, 3), COLOURS["red"], np.uint8))
    (critique,) = critic.critique([CritiqueTask(edit, critic.prepare(edit), candidate)], lambda: False)
    assert isinstance(critique, pb.Critique)
    assert critique.scores.prompt_alignment.value > 50


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_models_are_read_from_a_folder(kind: str, tmp_path: Path) -> None:
    save_encoder(kind, tmp_path)
    critic: Any = load_critic(f"dual_encoder@{tmp_path}")
    assert kind in critic.info.description
    rng = np.random.default_rng(0)
    edit = DecodedEdit(
        "edit", np.zeros((48, 60, 3), np.uint8), np.ones((48, 60), np.float32), prompt="a red dog"
    )
    prepared = critic.prepare(edit)
    tasks = [
        CritiqueTask(
            edit, prepared, DecodedCandidate("one", rng.integers(0, 256, (48, 60, 3)).astype(np.uint8))
        )
        for _ in range(3)
    ]
    together = critic.critique(tasks, lambda: False)
    alone = [critic.critique([task], lambda: False)[0] for task in tasks]
    margins = [[each.measurements[0].value for each in found] for found in (together, alone)]
    assert margins[0] == pytest.approx(margins[1], abs=1e-4)
    assert len(set(margins[0])) == 3


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_texts_longer_than_a_model_reads_are_cut(kind: str, tmp_path: Path) -> None:
    save_encoder(kind, tmp_path)
    points = DualEncoder(str(tmp_path), LoadOptions(device="cpu")).texts(["red " * 500, "blue"])
    assert points.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert not torch.equal(points[0], points[1])


def test_a_critic_without_weights_says_how_to_give_it_some() -> None:
    with pytest.raises(InvalidInput, match="dual_encoder@folder"):
        load_critic("dual_encoder")


def test_a_folder_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no dual encoder"):
        load_critic(f"dual_encoder@{tmp_path}")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save_encoder("clip", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match="safetensors"):
        load_critic(f"dual_encoder@{tmp_path}")


def test_a_model_that_only_reads_text_is_told(tmp_path: Path) -> None:
    tokenizer = save_parts(tmp_path)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match="does not compare texts with pictures"):
        load_critic(f"dual_encoder@{tmp_path}")


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a shiny red ball", ["shiny red ball"]),
        ("a cat wearing a hat, and a small dog", ["cat", "hat", "small dog"]),
        ("Replace it with a wooden bench under an oak tree.", ["wooden bench", "oak tree"]),
        ("a photo of a lighthouse on a cliff", ["lighthouse", "cliff"]),
        ("remove the person", []),
        ("background", []),
        ("  ", []),
        ("!!! 12", []),
        ("red, red, red", ["red"]),
    ],
)
def test_prompts_fall_into_phrases(prompt: str, phrases: list[str]) -> None:
    assert split_phrases(prompt) == phrases


def test_endless_prompts_keep_few_phrases() -> None:
    assert len(split_phrases(", ".join(f"thing {word * 3}" for word in "abcdefghijkl"))) == MAX_PHRASES
