"""The stage that trains a text encoder on reports, from nothing: pieces of words, then a network.

It guesses hidden words (Devlin et al. 2018, arXiv:1810.04805). What it leaves is a folder of the
transformers library.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.errors import InputError
from medssl.models.text.scratch import FOLDER
from medssl.models.text_folder import write_text_folder
from medssl.models.tokenizer import Tokenizer
from medssl.models.wordpiece import MARKS, MASK, WordPieceConfig, learn_pieces
from medssl.reports.pairs import INDEX, read_pairs
from medssl.reports.sentences import split_sentences
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.folder import atomic_path
from medssl.runs.progress import task
from medssl.runs.stage import StageResult, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.training.schedule import ScheduleConfig

Positive = Annotated[int, Field(gt=0)]

HIDDEN_SHARE: Final = 0.15
_BECOMES_MARK, _STAYS = 0.8, 0.1
"""Shares of the hidden tokens, as in the paper; the others become any token."""
_NOT_ASKED: Final = -100
_HELD_OUT: Final = 20
"""Every so manieth text is not trained on."""
_STATE, _PIECES = "state.ckpt", "pieces.json"
_LEAST_TEXTS: Final = 100

_log = logging.getLogger(__name__)


class NetworkConfig(Config):
    """A BERT of some size."""

    width: Positive = 256
    """Features of a token."""
    blocks: Positive = 4
    """Blocks of attention and MLP."""
    heads: Positive = 4
    """Attention heads; they share the width."""
    max_tokens: Positive = 512
    """Longest text."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Chance that a feature is dropped in training."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "NetworkConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")
        return self


class TrainTextConfig(Config):
    """Everything ``medssl text train`` reads."""

    corpus: Path
    """Pairs, of which the texts of the training split are read; or a text file (UTF-8) with one
    report or sentence a line, which must not hold identifiers: words become part of the model."""
    out: Path
    """Folder for the text encoder."""
    by_sentence: bool = True
    """Train on single sentences, as a report is read sentence by sentence later."""
    pieces: WordPieceConfig = WordPieceConfig()
    """How words are divided."""
    network: NetworkConfig = NetworkConfig()
    """What reads them."""
    schedule: ScheduleConfig | None = ScheduleConfig(steps=2000, warmup_steps=100)
    """For how long hidden words are guessed; null for a network with random weights."""
    batch_size: Positive = 64
    """Texts of a step."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    keep_every: Positive = 200
    """Steps between states that a training resumes from."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides first weights, order, and what is hidden."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""


def train_text(config: TrainTextConfig, *, overwrite: bool = False) -> StageResult:
    """Train a text encoder, or continue where an interrupted run of the same config stopped.

    Raises:
        InputError: The corpus cannot be read, or is too small.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    texts = read_corpus(config.corpus, by_sentence=config.by_sentence)
    with open_stage(
        "train_text",
        config.out,
        config,
        inputs={"corpus": digest_json(texts)},
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        if not (config.out / _PIECES).is_file():
            learn_pieces(texts, config.pieces).write(config.out / _PIECES)
        tokenizer = Tokenizer.read(config.out / _PIECES)
        trainer = _Trainer(config, tokenizer, texts)
        before = trainer.held_out()
        trainer.train()
        after = trainer.held_out()
        with atomic_path(config.out / FOLDER) as partial:
            write_text_folder(partial, trainer.network.base_model, config.out / _PIECES, MARKS)
        (config.out / _STATE).unlink(missing_ok=True)
        return run.finish(
            summary={
                "texts": len(texts),
                "pieces": tokenizer.size,
                "parameters": sum(p.numel() for p in trainer.network.base_model.parameters()),
                "held_out_texts": len(trainer.judged),
                "held_out_loss_before": before.loss,
                "held_out_loss": after.loss,
                "held_out_accuracy": after.accuracy,
            },
            look_at={"text encoder": f"{FOLDER}/config.json"},
            outputs={"text": digest_file(config.out / FOLDER / "model.safetensors")},
        )


def read_corpus(path: Path, *, by_sentence: bool) -> list[str]:
    """Return the different texts of a corpus, sorted.

    Raises:
        InputError: It is missing, not text, or has too few texts to learn from.
    """
    if (path / INDEX).is_file():
        whole = [pair.text() for pair in read_pairs(path).split("train")]
    elif path.is_file():
        try:
            whole = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: byte {error.start} is not UTF-8",
                hint="save the file as UTF-8, or make pairs of its reports, with their encoding "
                "given (`medssl reports pair`)",
            ) from None
    else:
        raise InputError(
            f"{path}: neither pairs nor a text file",
            hint="give the folder that `medssl reports pair` wrote, or a file of one report a line",
        )
    parts = [part for text in whole for part in (split_sentences(text) if by_sentence else [text])]
    texts = sorted({part.strip() for part in parts} - {""})
    if len(texts) < _LEAST_TEXTS:
        raise InputError(
            f"{path}: {len(texts)} different texts, too few to learn words from",
            hint=f"give at least {_LEAST_TEXTS}, better ten thousand; or use minilm or hf_folder",
        )
    return texts


class Judged(NamedTuple):
    """How well hidden words are guessed."""

    loss: float
    """Mean cross-entropy of a hidden token, in nats."""
    accuracy: float
    """Share of hidden tokens that the first guess names."""


class _Trainer:
    """Guesses hidden tokens; every step is a function of the seed and its number."""

    def __init__(self, config: TrainTextConfig, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.learned = [text for n, text in enumerate(texts) if n % _HELD_OUT]
        self.judged = list(texts[::_HELD_OUT])
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.network: Any = masked_language_model(config.network, tokenizer.size)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )

    def train(self) -> None:
        """Take the steps that are left."""
        schedule, config = self.config.schedule, self.config
        if schedule is None:
            return
        schedule = schedule.in_steps(config.batch_size)
        first = self._resume()
        self.network.train()
        with task("Training on texts", schedule.steps, done=first) as work:
            for step in range(first, schedule.steps):
                for group in self.optimizer.param_groups:
                    group["lr"] = config.lr * schedule.factor(step)
                loss = self._step(step)
                work.advance(note=f"loss {loss:.3f}")
                if (step + 1) % config.keep_every == 0:
                    self._keep(step + 1)

    def _step(self, step: int) -> float:
        draw = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        rows = torch.randint(len(self.learned), (self.config.batch_size,), generator=draw)
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed * 1_000_003 + step)  # dropout
            logits_NLV, target_NL = self._guess([self.learned[n] for n in rows.tolist()], draw)
            targets = target_NL.flatten()
            asked = (targets != _NOT_ASKED).sum().clamp_min(1)  # unknown words alone: none
            loss = F.cross_entropy(logits_NLV.flatten(0, 1), targets, reduction="sum") / asked
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def held_out(self) -> Judged:
        """Return how well it does on texts that it is not trained on."""
        self.network.eval()
        draw = torch.Generator().manual_seed(self.config.seed)
        loss, right, asked = 0.0, 0, 0
        for start in range(0, len(self.judged), self.config.batch_size):
            texts = self.judged[start : start + self.config.batch_size]
            logits_NLV, target_NL = self._guess(texts, draw)
            rows, targets = logits_NLV.flatten(0, 1), target_NL.flatten()
            loss += float(F.cross_entropy(rows, targets, reduction="sum"))
            right += int((rows.argmax(1) == targets).sum())
            asked += int((targets != _NOT_ASKED).sum())
        return Judged(loss / asked, right / asked)

    def _guess(self, texts: Sequence[str], draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return logits over the pieces at every token, and what the hidden ones were."""
        ids_NL, mask_NL, _ = self.tokenizer.encode(texts, self.config.network.max_tokens)
        mark_id = self.tokenizer.token_id(MASK)
        shown_NL, target_NL = hidden(ids_NL, mark_id or 0, len(MARKS), self.tokenizer.size, draw)
        logits_NLV: Tensor = self.network(
            input_ids=shown_NL.to(self.device), attention_mask=mask_NL.long().to(self.device)
        ).logits
        return logits_NLV, target_NL.to(self.device)

    def _keep(self, steps: int) -> None:
        state = {
            "steps": steps,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(self.config.out / _STATE) as partial:
            torch.save(state, partial)

    def _resume(self) -> int:
        """Return how many steps an interrupted training has taken, with its state loaded."""
        path = self.config.out / _STATE
        if not path.is_file():
            return 0
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        _log.info("Going on after step %d", state["steps"])
        return int(state["steps"])


def masked_language_model(config: NetworkConfig, pieces: int) -> nn.Module:
    """Return a BERT with random weights and the layer that guesses tokens."""
    from transformers import BertConfig, BertForMaskedLM

    network: nn.Module = BertForMaskedLM(
        BertConfig(
            vocab_size=pieces,
            hidden_size=config.width,
            num_hidden_layers=config.blocks,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.width,
            max_position_embeddings=config.max_tokens,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
    )
    return network


def hidden(
    ids_NL: Tensor, mark_id: int, marks: int, pieces: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return tokens some of which are hidden, and what those were; -100 where none is asked for.

    Devlin et al. 2018 (arXiv:1810.04805, sec. 3.1): of the 15 % that are asked for, 80 % become a
    mark, 10 % any token, and 10 % stay. In a batch at least one is asked for.

    Args:
        ids_NL: Tokens; numbers below ``marks`` are marks and padding, which stay.
        mark_id: What a hidden one becomes.
        marks: Number of marks.
        pieces: Number of all tokens.
        draw: Decides.
    """
    words_NL = ids_NL >= marks
    chance_NL = torch.rand(ids_NL.shape, generator=draw).where(words_NL, torch.inf)
    asked_NL = (chance_NL < HIDDEN_SHARE) | (chance_NL == chance_NL.min())
    asked_NL &= words_NL
    target_NL = ids_NL.where(asked_NL, _NOT_ASKED)
    how_NL = torch.rand(ids_NL.shape, generator=draw)
    other_NL = torch.randint(marks, pieces, ids_NL.shape, generator=draw)
    shown_NL = ids_NL.where(~asked_NL | (how_NL >= 1 - _STAYS), other_NL)
    return shown_NL.masked_fill(asked_NL & (how_NL < _BECOMES_MARK), mark_id), target_NL
