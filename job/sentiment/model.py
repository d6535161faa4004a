"""A trained model as a directory: weights, words, and one JSON that says what it is.

    model.json            architecture, tokenizer, word table, metrics, sha256 of the others;
                          with `table_words` it needs that table where it scores
    weights.safetensors   every parameter of the network, float32
    words.txt             the vocabulary, one word a line, in the order of the ids

Nothing in it is executed when it is loaded: no pickle.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from sentiment.errors import InvalidInputError
from sentiment.files import new_directory, refuse_existing
from sentiment.network import SentimentNetwork
from sentiment.recipes import ModelConfig
from sentiment.table_words import TableWords
from sentiment.text import TOKENIZER
from sentiment.vocabulary import Vocabulary

FORMAT = 1
TABLE_FORMAT = 2
"""The format of a model that needs its word table: one that older programs must refuse."""
DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"
WORDS = "words.txt"
_COPY_AGAIN = "copy the whole model directory again, or train it anew"
_NEEDED = {"digest", "scale"}


@dataclass(frozen=True)
class Model:
    """A model that can score: `max_tokens` is how much of a text it reads."""

    network: SentimentNetwork
    vocabulary: Vocabulary
    max_tokens: int
    digest: str
    description: dict[str, Any]


def check_target(target: Path, *, replace: bool) -> None:
    """Stop before any work if a model cannot be put at `target`.

    Raises:
        SentimentError: `target` exists and `replace` is not set.
        InvalidInputError: it may be replaced, but it is no model.
    """
    refuse_existing(target, replace=replace)
    if target.exists() and not (target / DESCRIPTION).is_file():
        raise InvalidInputError(
            "is no model directory: --force replaces only what train made",
            where=str(target),
            todo="name another place",
        )


def save_model(
    target: Path,
    *,
    network: SentimentNetwork,
    vocabulary: Vocabulary,
    max_tokens: int,
    about: Mapping[str, Any],
    replace: bool = False,
) -> str:
    """Write a model directory, whole or not at all; returns its digest.

    `about` is added to model.json: recipe, word table, metrics.

    Raises:
        SentimentError: `target` exists and `replace` is not set, or the disk refuses.
    """
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    files = {WEIGHTS: save(weights), WORDS: vocabulary.to_bytes()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    identity = {
        "format": FORMAT,
        "tokenizer": TOKENIZER,
        "max_tokens": max_tokens,
        "architecture": asdict(network.config),
        "files": hashes,
    }
    if network.table_words is not None:
        needed = {"digest": network.table_words.digest, "scale": network.table_words.scale}
        identity |= {"format": TABLE_FORMAT, "table_words": needed}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    description = {"digest": digest, **identity, **about}
    with new_directory(target, replace=replace) as directory:
        for name, data in files.items():
            (directory / name).write_bytes(data)
        (directory / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return digest


def read_model_files(path: Path) -> dict[str, bytes]:
    """The content of a model's files, to load here or to send to executors.

    Raises:
        InvalidInputError: a file is missing or cannot be read.
    """
    if not any((path / name).exists() for name in (DESCRIPTION, WEIGHTS, WORDS)):
        raise InvalidInputError(
            "is not a model directory" if path.exists() else "there is no model here",
            where=str(path),
            todo="train one: sentiment train CORPUS MODEL --vectors TABLE",
        )
    files = {}
    for name in (DESCRIPTION, WEIGHTS, WORDS):
        try:
            files[name] = (path / name).read_bytes()
        except OSError as error:
            raise InvalidInputError(
                f"the model's file {name} cannot be read: {error.strerror}",
                where=str(path),
                todo=_COPY_AGAIN,
            ) from error
    return files


def load_model(path: Path, *, table: str | None = None) -> Model:
    """Load and check a model directory.

    A model that needs its word table finds it in this host's store, else at the path `table`.

    Raises:
        InvalidInputError: a file is missing or altered, or the model needs another version.
    """
    return model_from_files(read_model_files(path), where=str(path), table=table)


def model_from_files(files: Mapping[str, bytes], *, where: str, table: str | None = None) -> Model:
    """A model from the content of its files; `where` names it in messages, `table` as above.

    Raises:
        InvalidInputError: as `load_model`.
    """
    description = _description(files[DESCRIPTION], where=where)
    for name, expected in description["files"].items():
        if name not in files or hashlib.sha256(files[name]).hexdigest() != expected:
            raise InvalidInputError(
                f"{name} is not the file that was saved: its sha256 differs",
                where=where,
                todo=_COPY_AGAIN,
            )
    try:
        weights = load(files[WEIGHTS])
        config = ModelConfig(**description["architecture"])
        vocabulary = Vocabulary.from_bytes(files[WORDS])
        vectors = torch.zeros_like(weights["embedding.weight"])
        needed = _table_words(description, first=len(vectors), path=table)
        network = SentimentNetwork(config, vectors=vectors, table_words=needed)
        network.load_state_dict(weights)
    except (SafetensorError, TypeError, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"the weights do not fit the architecture in {DESCRIPTION}: {error}",
            where=where,
            todo=_COPY_AGAIN,
        ) from error
    network.eval()
    return Model(network, vocabulary, description["max_tokens"], description["digest"], description)


def on(model: Model, device: torch.device) -> Model:
    """The model with its network on this device, which it leaves for it."""
    return replace(model, network=model.network.to(device))


def model_digest(files: Mapping[str, bytes], *, where: str) -> str:
    """The digest of a model, as its description tells it.

    Raises:
        InvalidInputError: its description is missing or altered.
    """
    return str(_description(files[DESCRIPTION], where=where)["digest"])


def needed_table(files: Mapping[str, bytes], *, where: str) -> str | None:
    """The digest of the word table that a model needs where it scores; None where it needs none.

    Raises:
        InvalidInputError: its description is missing or altered.
    """
    needed = _description(files[DESCRIPTION], where=where).get("table_words")
    return None if needed is None else str(needed["digest"])


def _table_words(
    description: Mapping[str, Any], *, first: int, path: str | None
) -> TableWords | None:
    needed = description.get("table_words")
    if needed is None:
        return None
    return TableWords(str(needed["digest"]), first, float(needed["scale"]), path)


def _description(data: bytes, *, where: str) -> dict[str, Any]:
    needed = {"format", "digest", "tokenizer", "max_tokens", "architecture", "files"}
    try:
        description = json.loads(data)
        missing = needed - description.keys()
    except (ValueError, AttributeError) as error:
        raise InvalidInputError(
            f"{DESCRIPTION} is not a model's description", where=where, todo=_COPY_AGAIN
        ) from error
    if missing:
        raise InvalidInputError(
            f"{DESCRIPTION} lacks {', '.join(sorted(missing))}", where=where, todo=_COPY_AGAIN
        )
    expected = TABLE_FORMAT if "table_words" in description else FORMAT
    if description["format"] != expected or description["tokenizer"] != TOKENIZER:
        raise InvalidInputError(
            f"the model has format {description['format']} and tokenizer "
            f"{description['tokenizer']}, this version reads {expected} and {TOKENIZER}",
            where=where,
            todo="use the version of sentiment that trained it, or train it anew",
        )
    unknown = description["architecture"].keys() - {f.name for f in fields(ModelConfig)}
    table = description.get("table_words", dict.fromkeys(_NEEDED))
    table = set(table) if isinstance(table, dict) else None
    if unknown or set(description["files"]) != {WEIGHTS, WORDS} or table != _NEEDED:
        raise InvalidInputError(
            f"{DESCRIPTION} was altered: its architecture or files are not those of a model",
            where=where,
            todo=_COPY_AGAIN,
        )
    return dict(description)
