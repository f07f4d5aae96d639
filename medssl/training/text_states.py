"""What a frozen text encoder makes of every sentence, computed once and kept in the run folder."""

from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from medssl.methods.base import ReportMethod
from medssl.models.text.base import TextEncoder
from medssl.runs.digest import digest_json
from medssl.runs.folder import atomic_path
from medssl.runs.processes import decided_by_first
from medssl.runs.progress import task
from medssl.training.pair_stream import PairStream, without_tokens

FILE: Final = "text_states.safetensors"
_AT_ONCE: Final = 64


def keep_states(method: ReportMethod, pairs: PairStream, run: Path) -> PairStream:
    """Give a method what its text encoder makes of all sentences; return pairs without tokens.

    Of several processes the first one reads them.

    Args:
        method: Its text encoder does not train.
        pairs: The sentences, as tokens.
        run: Folder of the run, where an earlier start may have left them.
    """
    path = run / FILE
    facts = pairs.facts
    tokens = (facts.token_UL, facts.token_mask_UL)
    decided_by_first(lambda: write_states(path, method.text, *tokens, pairs.digest))
    name = _name(pairs.digest, method.text, *tokens)
    method.keep_text_states(load_file(path)[name])
    return without_tokens(pairs)


def write_states(
    path: Path, text: TextEncoder, token_UL: Tensor, mask_UL: Tensor, digest: str
) -> None:
    """Write ``(U, D)`` vectors of U sentences, unless ``path`` has them.

    Args:
        path: A safetensors file.
        text: The encoder, used as at test time.
        token_UL: Tokens of the sentences.
        mask_UL: Whether there is a token.
        digest: Of what the sentences were taken from.
    """
    name = _name(digest, text, token_UL, mask_UL)
    try:
        if name in load_file(path):
            return
    except (OSError, SafetensorError):  # there is none, or it is damaged
        pass
    state_UD = sentence_states(text, token_UL, mask_UL)
    with atomic_path(path) as partial:
        partial.write_bytes(save({name: state_UD}))


@torch.no_grad()
def sentence_states(text: TextEncoder, token_UL: Tensor, mask_UL: Tensor) -> Tensor:
    """Return one vector per sentence, ``(U, D)`` on the CPU; sentences of like length together."""
    was_training = text.training
    text.eval()
    device = next(text.parameters()).device
    order = mask_UL.sum(1).argsort()
    parts = list[Tensor]()
    with task("Reading reports", len(order)) as work:
        for chosen in torch.split(order, _AT_ONCE):
            used = int(mask_UL[chosen].any(0).sum())
            ids_NL, mask_NL = (x[chosen, :used].to(device) for x in (token_UL, mask_UL))
            parts.append(text.pool(text.states(ids_NL, mask_NL), mask_NL).float().cpu())
            work.advance(len(chosen))
    text.train(was_training)
    return torch.cat(parts)[order.argsort()]


def _name(digest: str, text: TextEncoder, token_UL: Tensor, mask_UL: Tensor) -> str:
    """Return what vectors are kept under: of other pairs, tokens or weights they are others."""
    weights = sum(float(weight.double().abs().sum()) for weight in text.parameters())
    tokens = [list(token_UL.shape), int(token_UL.sum()), int(mask_UL.sum())]
    return digest_json([digest, tokens, weights])
