"""Label-free pairs: the order inside a group is known because the faults were put in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.server.training.batches import ENGINE, KINDS, collate, labels_of, to_input
from editcritic.server.training.defects import INJECTIONS
from editcritic.server.training.gallery import draw_gallery
from editcritic.server.training.pairs import GROUP_SIZE, Group, PairSource, Photographs
from editcritic.server.training.preview import as_preview
from editcritic.v1 import critic_pb2 as pb

SIDE = 96


@pytest.fixture(scope="module")
def groups(photographs: Photographs) -> list[Group]:
    source = PairSource(photographs, SIDE, seed=5)
    return [source.group(i) for i in range(40)]


def test_a_group_holds_a_clean_answer_one_fault_twice_and_another_one(groups: list[Group]) -> None:
    full = [group for group in groups if all(group.injected[1:])]
    assert len(full) > len(groups) / 2
    for group in full:
        clean, mild, severe, other = group.injected
        assert clean == ""
        assert mild == severe != other
        assert 0 < group.severities[1] < group.severities[2] <= 1


def test_only_the_injured_place_differs_from_the_clean_answer(groups: list[Group]) -> None:
    for group in groups:
        if group.progress < 1:
            continue
        clean = group.candidates[0].astype(int)
        for image, injured in itertools.islice(zip(group.candidates, group.injured, strict=True), 1, None):
            change = np.abs(image - clean).max(axis=2)
            assert change[~injured].mean() <= change[injured].mean() if injured.any() else change.max() == 0


def test_a_group_depends_on_seed_and_index_alone(photographs: Photographs) -> None:
    one, other = PairSource(photographs, SIDE, seed=5), PairSource(photographs, SIDE, seed=5)
    one.group(0)
    assert np.array_equal(one.group(7).candidates, other.group(7).candidates)
    assert not np.array_equal(one.group(7).candidates, one.group(8).candidates)
    assert not np.array_equal(one.group(7).alpha, PairSource(photographs, SIDE, seed=6).group(7).alpha)


def test_a_hidden_source_shows_nothing_of_what_stood_inside(groups: list[Group]) -> None:
    def is_hidden(group: Group) -> bool:
        return len(np.unique(group.source[group.alpha > 0], axis=0)) == 1

    hidden = [group for group in groups if is_hidden(group)]
    assert 0 < len(hidden) < len(groups)
    # What is left of the source could not be told from a hidden one.
    assert not any({"leftover", "unchanged"} & set(group.injected) for group in hidden)


def test_some_groups_are_previews_and_some_keep_the_mask_to_themselves(photographs: Photographs) -> None:
    source = PairSource(photographs, SIDE, seed=9)
    groups = [source.group(i) for i in range(60)]
    assert 0 < sum(group.progress < 1 for group in groups) < 20
    assert 0 < sum(not group.mask_known for group in groups) < 25


@pytest.mark.parametrize("name", INJECTIONS)
def test_every_fault_has_a_kind_and_lowers_a_score(name: str) -> None:
    labels = labels_of(name)
    assert labels.kind.sum() == 1
    assert KINDS[int(labels.kind.argmax())] == INJECTIONS[name].kinds[0]
    assert not (labels.kind * labels.open).any()
    if name == "unchanged":
        assert not labels.told.any()
    else:
        assert labels.touched[-1] == 1


def test_of_an_engines_answers_only_the_order_is_claimed() -> None:
    labels = labels_of(ENGINE)
    assert not labels.told.any()
    assert labels.open.all()
    assert labels.touched.tolist() == [1, 1, 0, 1]


def test_a_batch_repeats_the_edit_for_each_of_its_candidates(groups: list[Group]) -> None:
    batch = collate(groups[:3])
    given = to_input(batch)
    assert given.candidate.shape == (3 * GROUP_SIZE, 3, SIDE, SIDE)
    assert given.source.shape == given.candidate.shape
    second = GROUP_SIZE
    assert np.array_equal(
        ((given.source[second].numpy() + 1) * 127.5).round().astype(np.uint8),
        np.moveaxis(groups[1].source, -1, 0),
    )
    for place, group in enumerate(groups[:3]):
        alpha = given.alpha[place * GROUP_SIZE]
        assert bool(alpha.any()) is group.mask_known


def test_a_fault_that_cannot_be_seen_is_none(photographs: Photographs) -> None:
    grey: NDArray[np.uint8] = np.full((SIDE + 40, SIDE + 40, 3), 120, np.uint8)
    plain = Photographs([grey], [[]], ["grey"])
    source = PairSource(plain, SIDE, seed=1, names=("blur", "resolution", "warp"))
    quiet = [source.group(i) for i in range(6)]
    # Without re-encoding or grain of its own, a grey plane cannot be blurred: all answers are the clean one.
    assert any(set(group.injected) == {""} for group in quiet)


def test_an_early_preview_is_further_from_its_candidate_than_a_late_one() -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 16:48] = 1
    errors = []
    for progress in (0.2, 0.5, 0.9):
        shown = as_preview(image, mask, progress, seed=3)
        assert np.array_equal(shown[mask == 0], image[mask == 0])
        errors.append(np.abs(shown.astype(int) - image)[mask > 0].mean())
    assert errors[0] > errors[1] > errors[2]


def test_the_gallery_shows_a_row_for_each_group(groups: list[Group]) -> None:
    one, three = draw_gallery(groups[:1]), draw_gallery(groups[:3])
    assert three.height == 3 * one.height
    assert np.asarray(three).std() > 10


def test_the_kinds_of_the_network_are_all_that_can_be_seen() -> None:
    assert len(KINDS) == len(set(KINDS)) == len(pb.DefectKind.keys()) - 2
    assert pb.DEFECT_KIND_PROMPT_MISMATCH not in KINDS
