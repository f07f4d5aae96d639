"""A text encoder of a few weights as a folder of the transformers library."""

from pathlib import Path

import torch

from medssl.models.text.hf_folder import HFFolder

WORDS = [
    *("a", "acute", "chest", "effusion", "finding", "heart", "in", "is", "large", "left", "lobe"),
    *("lung", "mass", "no", "nodule", "normal", "of", "on", "right", "series", "the", "upper"),
]


def write_text_folder(folder: Path, *, blocks: int = 1) -> Path:
    """Write a BERT of width 16 that knows WORDS and single letters and digits."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertModel

    if (folder / "tokenizer.json").is_file():
        return folder
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,"]
    entries = [
        *marks,
        *WORDS,
        *(x for x in letters if x not in WORDS),
        *(f"##{x}" for x in letters),
    ]
    model = WordPiece({entry: n for n, entry in enumerate(entries)}, unk_token=marks[1])
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(pad_id=0, pad_token=marks[0])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(entries),
            hidden_size=16,
            num_hidden_layers=blocks,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def tiny_text(folder: Path, **options) -> HFFolder.Config:
    """Return the options of a tiny text encoder, whose folder is written where it is missing."""
    return HFFolder.Config(path=write_text_folder(folder), **options)
