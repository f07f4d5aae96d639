"""The text encoder contract: token states, and one vector for a text.

Suffixes: N texts, L tokens, D width.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.config.choice import Configurable
from medssl.errors import ConfigError
from medssl.models.lora import add_low_rank
from medssl.models.slice_pooling.base import masked_mean
from medssl.models.text_folder import read_network, read_tokenizer
from medssl.models.tokenizer import Tokenizer
from medssl.runs.folder import write_json

STORED_DESCRIPTION, STORED_TOKENIZER = "config.json", "tokenizer.json"

Positive = Annotated[int, Field(gt=0)]


class TextEncoder(Configurable, nn.Module):
    """A transformer of a folder, with its tokenizer; what of it trains is its configuration's."""

    class Config(Configurable.Config):
        """The options that all text encoders have."""

        train: Literal["frozen", "lora", "last_n", "full"] = "frozen"
        """What trains: nothing, low-rank changes beside the layers of attention (Hu et al. 2021,
        arXiv:2106.09685), the last blocks, or everything."""
        last_n: Positive = 2
        """Blocks that train with `last_n`, and whatever follows them."""
        lora_rank: Positive = 8
        """Rank of every change with `lora`."""
        lora_alpha: Annotated[float, Field(gt=0)] = 16.0
        """With `lora`, changes are multiplied by this over the rank."""
        lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
        """With `lora`, the chance that an input of a change is dropped in training."""
        pooling: Literal["mean", "cls", "last"] = "mean"
        """A text's vector: the mean of its token states, the first, or the last (for networks that
        only look back)."""

    config: Config
    tokenizer: Tokenizer
    embed_dim: int
    """Width of a state, and length of a text's vector."""
    max_tokens: int
    """Longest text that it reads, marks of begin and end counted."""

    def __init__(self, config: Config, stored: Path | None = None) -> None:
        """Read the network.

        Args:
            config: Its options.
            stored: What :meth:`write_description` left: weights are then random, to be loaded;
                without, description, tokenizer and weights come from :meth:`folder`.

        Raises:
            InputError: Files are missing or damaged.
            ConfigError: ``lora`` or ``last_n`` do not fit the network.
        """
        super().__init__()
        self.config = config
        if stored is not None:
            self.tokenizer, limit = Tokenizer.read(stored / STORED_TOKENIZER), None
            self.net = read_network(stored, weights=False)
        else:
            folder = self.folder()
            self.tokenizer, limit = read_tokenizer(folder)
            self.net = read_network(folder)
        self.embed_dim = int(self._network.config.hidden_size)
        places = _places(self.net)
        self.max_tokens = min(limit or places, places)
        self._choose_what_trains()

    def folder(self) -> Path:
        """Return the folder that a new encoder is read from.

        Raises:
            InputError: It is not there, or not whole.
        """
        raise NotImplementedError

    def write_description(self, folder: Path) -> None:
        """Write all but the weights: the network's description and the tokenizer."""
        description = {**self._network.config.to_dict(), "max_tokens": self.max_tokens}
        description.pop("_name_or_path", None)  # where it lay on this machine is nobody's business
        write_json(folder / STORED_DESCRIPTION, description)
        self.tokenizer.write(folder / STORED_TOKENIZER)

    def portable_config(self) -> Config:
        """Return its options as they stand beside a stored model: no place on this machine."""
        return self.config

    def packaged(self) -> dict[str, Any] | None:
        """Return which installed package holds exactly these weights; None where none does.

        ``package``, its ``version``, and ``sha256`` of its files by name.
        """
        return None

    @property
    def _network(self) -> Any:
        """The network as the transformers library knows it."""
        return self.net

    @property
    def frozen(self) -> bool:
        """Whether none of it trains, so that states can be kept."""
        return not any(weight.requires_grad for weight in self.parameters())

    def states(self, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """Return the state of every token, ``(N, L, D)``.

        Raises:
            ValueError: Texts are longer than ``max_tokens``.
        """
        if ids_NL.shape[1] > self.max_tokens:
            raise ValueError(f"{ids_NL.shape[1]} tokens, but at most {self.max_tokens} can be read")
        states: Tensor = self.net(input_ids=ids_NL, attention_mask=mask_NL.long()).last_hidden_state
        return states

    def pool(self, states_NLD: Tensor, mask_NL: Tensor) -> Tensor:
        """Return one vector per text, ``(N, D)``; padding counts for nothing."""
        if self.config.pooling == "cls":
            return states_NLD[:, 0]
        if self.config.pooling == "last":
            rows = torch.arange(len(states_NLD), device=states_NLD.device)
            return states_NLD[rows, mask_NL.sum(1) - 1]
        return masked_mean(states_NLD, mask_NL)

    @torch.no_grad()
    def embed(
        self, texts: Sequence[str], *, batch_size: int = 32, max_tokens: int | None = None
    ) -> Tensor:
        """Return a vector per text, ``(N, D)``, without gradient; long texts are cut.

        Args:
            texts: At least one.
            batch_size: Texts at a time, of like length.
            max_tokens: Of a text, where fewer than the encoder could read are wanted.
        """
        most = min(max_tokens or self.max_tokens, self.max_tokens)
        device = next(self.parameters()).device
        lengths = self.tokenizer.lengths(texts)
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        vectors = list[Tensor]()
        for start in range(0, len(order), batch_size):
            chosen = [texts[n] for n in order[start : start + batch_size]]
            ids_NL, mask_NL, _ = self.tokenizer.encode(chosen, most)
            ids_NL, mask_NL = ids_NL.to(device), mask_NL.to(device)
            vectors.append(self.pool(self.states(ids_NL, mask_NL), mask_NL))
        place_N = torch.tensor(order, device=device).argsort()
        return torch.cat(vectors)[place_N]

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks of the transformer: the longest list of modules in it."""
        lists = (part for part in self.net.modules() if isinstance(part, nn.ModuleList))
        return max(lists, key=len)

    def stages(self) -> list[nn.Module]:
        """Return its parts from input to output: embeddings, blocks, and what follows them."""
        return list(_unrolled(self.net, self.blocks))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; parts that do not train stay as at test time, without dropout."""
        super().train(mode)
        for part in self.stages():
            part.train(mode and any(weight.requires_grad for weight in part.parameters()))
        return self

    def _choose_what_trains(self) -> None:
        config = self.config
        self.net.requires_grad_(config.train == "full")
        if config.train == "last_n":
            self._train_last(config.last_n)
        elif config.train == "lora":
            layers = list(_attention_layers(self.net))
            if not layers:
                raise ConfigError(
                    f"lora works beside layers of attention, and {config.name} has none that are "
                    "linear layers",
                    hint="use train: last_n or full",
                )
            for layer in layers:
                add_low_rank(
                    layer,
                    rank=config.lora_rank,
                    scale=config.lora_alpha / config.lora_rank,
                    dropout=config.lora_dropout,
                    generator=torch.default_generator,
                )

    def _train_last(self, count: int) -> None:
        stages, blocks = self.stages(), self.blocks
        if count > len(blocks):
            raise ConfigError(
                f"last_n is {count}, but the text encoder has {len(blocks)} blocks",
                hint=f"choose {len(blocks)} or less, or train: full",
            )
        first = next(n for n, stage in enumerate(stages) if stage is blocks[-count])
        for stage in stages[first:]:
            stage.requires_grad_(True)


def _unrolled(module: nn.Module, blocks: nn.ModuleList) -> Iterator[nn.Module]:
    for child in module.children():
        if child is blocks:
            yield from blocks
        elif any(part is blocks for part in child.modules()):
            yield from _unrolled(child, blocks)
        else:
            yield child


def _attention_layers(network: nn.Module) -> Iterator[nn.Linear]:
    """Return the linear layers of attention, each once; its modules are named so everywhere."""
    seen = set[int]()
    for part in network.modules():
        if "attention" in type(part).__name__.lower():
            for layer in part.modules():
                if isinstance(layer, nn.Linear) and id(layer) not in seen:
                    seen.add(id(layer))
                    yield layer


def _places(network: Any) -> int:
    """Return for how many tokens the network knows places, as stored or by its description.

    A table that begins after the number of the padding token (RoBERTa's) has fewer than rows.
    """
    stored: int | None = getattr(network.config, "max_tokens", None)
    if stored is not None:
        return stored
    places = int(network.config.max_position_embeddings)
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    padding: int | None = getattr(table, "padding_idx", None)
    return places if padding is None else places - padding - 1
