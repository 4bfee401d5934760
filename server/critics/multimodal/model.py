"""A multimodal model of transformers, asked two things: how likely each of some words is, and for a short text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from editcritic.server.critics.placement import (
    check_quantisable,
    place_for,
    refuse_missing,
    type_for,
    type_option,
)
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1.errors import InvalidInput, ServerFault

__all__ = ["MultimodalModel", "next_logits", "open_model"]

Pixels = NDArray[np.uint8]


class MultimodalModel:
    """Any image-text-to-text model with its processor; every question runs alone, nothing is sampled.

    Args:
        model: `AutoModelForImageTextToText`, on its device.
        processor: of the same folder, with a chat template.
        name: told to clients.
    """

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        self._model, self._processor, self.name = model.eval(), processor, name
        self.model_type = str(model.config.model_type)
        self.device = model.device
        self._tokenizer = getattr(processor, "tokenizer", processor)

    def plain(self, text: str) -> str:
        """A user's words without what the model takes for marks of its own, such as the end of a turn."""
        marks = {*self._tokenizer.all_special_tokens, *self._tokenizer.get_added_vocab()}
        for mark in sorted(marks, key=len, reverse=True):
            text = text.replace(mark, " ")
        return text.strip()

    def first_tokens(self, words: Sequence[str]) -> list[int]:
        """The token that each word begins with at the start of a line.

        Raises:
            InvalidInput: two words begin with the same token: one forward pass could not tell them apart.
        """
        tokens = [self._tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
        if len(set(tokens)) < len(words):
            raise InvalidInput(
                f"{self.name} begins two of {', '.join(words)} with the same token; they cannot be told apart"
            )
        return tokens

    @torch.inference_mode()
    def word_probabilities(
        self, pictures: Sequence[Pixels], question: str, words: Sequence[str], begin: str = ""
    ) -> list[float]:
        """How likely the answer goes on with each word, among these words only; one forward pass.

        Args:
            pictures: (h, w, 3) uint8, in the order in which they are spoken of.
            begin: how the answer begins; the words follow it.
        """
        tokens = self.first_tokens(words)
        logits = next_logits(self._model, self._asked(pictures, question, begin))[0, tokens].float()
        probabilities: list[float] = torch.softmax(logits, -1).tolist()
        if not np.isfinite(probabilities).all():
            raise ServerFault(f"{self.name} gave no finite likelihoods")
        return probabilities

    @torch.no_grad()
    def hidden_states(self, pictures: Sequence[Pixels], question: str) -> tuple[Tensor, Tensor]:
        """The last hidden states (T, D) float32, and which of them are pictures', (T,) bool; one forward pass."""
        asked = self._asked(pictures, question, "")
        states: Tensor = self._model(**asked, output_hidden_states=True).hidden_states[-1][0]
        tokens = [getattr(self._model.config, name, None) for name in ("image_token_id", "image_token_index")]
        image = next(token for token in tokens if token is not None)
        return states.float().cpu(), (asked["input_ids"][0] == image).cpu()

    @torch.inference_mode()
    def hidden_state(self, pictures: Sequence[Pixels], question: str, token: str) -> Tensor:
        """The last hidden state (D,) float32 at a token put at the end of the question; one forward pass.

        Where the model does not know the token, the state is that of the last token of all.
        """
        known = token in self._tokenizer.get_vocab()
        asked = self._asked(pictures, question + token if known else question, "")
        states = self._model(**asked, output_hidden_states=True).hidden_states[-1][0]
        place = -1
        if known:
            marked = asked["input_ids"][0] == self._tokenizer.convert_tokens_to_ids(token)
            place = int(marked.nonzero()[-1])
        state: Tensor = states[place].float().cpu()
        return state

    @torch.inference_mode()
    def write(self, pictures: Sequence[Pixels], question: str, most_tokens: int) -> str:
        """The likeliest answer, token by token.

        Raises:
            ServerFault: it was not at its end after `most_tokens`.
        """
        asked = self._asked(pictures, question, "")
        written = self._model.generate(
            **asked,
            max_new_tokens=most_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
        )[0, asked["input_ids"].shape[1] :]
        ends = self._model.generation_config.eos_token_id
        if not set(written.tolist()) & set(ends if isinstance(ends, list) else [ends]):
            raise ServerFault(f"{self.name}'s answer was not at its end after {most_tokens} tokens")
        text: str = self._tokenizer.decode(written, skip_special_tokens=True)
        return text

    def answer_loss(self, pictures: Sequence[Pixels], question: str, answer: str, begin: str = "") -> Tensor:
        """Cross-entropy of a right answer's tokens and of its end, with gradients where weights ask for them.

        Args:
            begin: how the answer begins; given, not learned.
        """
        asked = self._asked(pictures, question, begin)
        ids = self._tokenizer(answer, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ends = self._tokenizer.eos_token_id
        ids = torch.cat([ids, torch.tensor([[ends]])], 1).to(self.device)
        given = asked["input_ids"].shape[1]
        whole = dict(asked)
        whole["input_ids"] = torch.cat([asked["input_ids"], ids], 1)
        for name, filler in (("attention_mask", 1), ("mm_token_type_ids", 0)):
            if name in whole:
                whole[name] = torch.cat([whole[name], torch.full_like(ids, filler)], 1)
        logits = self._model(**whole).logits[0, given - 1 : -1].float()
        return torch.nn.functional.cross_entropy(logits, ids[0])

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Weights of the model by name."""
        named: Iterator[tuple[str, torch.nn.Parameter]] = self._model.named_parameters()
        return named

    def wrap(self, around: Callable[[Any], Any]) -> None:
        """Put something around the model, such as adapters."""
        self._model = around(self._model)

    def save(self, folder: Path) -> None:
        """Write the model, or its adapters where it has some, and its processor."""
        self._model.save_pretrained(folder)
        self._processor.save_pretrained(folder)

    def _asked(self, pictures: Sequence[Pixels], question: str, begin: str) -> Any:
        content = [{"type": "image"} for _ in pictures] + [{"type": "text", "text": question}]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        images = [Image.fromarray(picture) for picture in pictures]
        batch = self._processor(text=[text + begin], images=images, return_tensors="pt")
        # The numbers of pictures become those of the weights; tokens stay what they are.
        return batch.to(self.device, dtype=self._model.dtype)


def next_logits(model: Any, asked: Mapping[str, Any]) -> Tensor:
    """Logits (N, V) of the token that follows each row; one forward pass.

    A row of a thousand tokens would have a thousand times V logits, of which the last V are asked for.
    """
    last = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
    logits: Tensor = model(**asked, **last).logits
    return logits[:, -1]


def open_model(name: str, options: LoadOptions = AS_IT_IS) -> MultimodalModel:
    """The model of a folder, or of a hub by its id.

    Args:
        options: device, numbers, and whether the weights are quantised to four bits (bitsandbytes).

    Raises:
        InvalidInput: a package or the device is missing, or there is no such model with safetensors weights and a
            chat template, or some of its weights are not there.
    """
    try:
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise InvalidInput("multimodal models need transformers: pip install 'editcritic[models]'") from error
    place = place_for(options.device)
    here = Path(name).is_dir()
    source: dict[str, Any] = {"local_files_only": here, "trust_remote_code": False}
    numbers = _numbers(options, place)
    try:
        processor = AutoProcessor.from_pretrained(name, **source)
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, **source, **numbers
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise InvalidInput(f"{name} holds no multimodal model that can be loaded: {error}") from error
    refuse_missing(name, loaded)
    if getattr(processor, "chat_template", None) is None:
        raise InvalidInput(f"{name} has no chat template: how to show it pictures is not known")
    return MultimodalModel(
        model if options.bits else model.to(place), processor, Path(name).name if here else name
    )


def _numbers(options: LoadOptions, place: str) -> dict[str, Any]:
    """What `from_pretrained` is told of them; quantised weights are put in their place while they are read."""
    kind = type_for(options, place)
    if not options.bits:
        return type_option(kind)
    check_quantisable(place)
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind)
    return {**type_option(kind), "quantization_config": quantised, "device_map": {"": place}}
