"""word2vec, trained with gensim on the reviews' own text."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gensim
import numpy as np
from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.files import sha256_of
from sentiment.text import tokens
from sentiment.vectors.chunk import Chunk
from sentiment.vectors.source import Source

_CHUNK_ROWS: Final = 20_000


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of word2vec, in gensim's words. Only one worker gives the same vectors again."""

    dimensions: int = 100
    window: int = 5
    min_count: int = 5
    epochs: int = 5
    learning_rate: float = 0.05
    negative: int = 5
    seed: int = 1
    workers: int = 1


def train_vectors(
    texts: Iterable[str],
    *,
    about: Mapping[str, str],
    settings: TrainingSettings,
    say: Callable[[str], None],
) -> Source:
    """Train word2vec (CBOW, negative sampling) on texts; the words come by falling frequency.

    The texts are split by `sentiment.text.tokens` into a temporary file, which
    gensim reads with all its workers at once and without Python's lock.
    `say` is told how it goes on; `about` goes into the manifest, its "name"
    into messages.

    Raises:
        InvalidInputError: no word is frequent enough.
        SentimentError: the temporary file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="sentiment-vectors-") as directory:
            path = Path(directory) / "sentences.txt"
            reviews, count = _write_sentences(texts, path)
            say(f"word2vec on {reviews:,} reviews, {count:,} tokens")
            digest = sha256_of(path)
            model = _train(path, name=about["name"], settings=settings, say=say)
    except OSError as error:
        raise SentimentError(
            f"cannot be written: {error.strerror or error}",
            where=error.filename or tempfile.gettempdir(),
            todo="make room there, or name another place in TMPDIR",
        ) from error
    told = {
        **about,
        "format": f"word2vec, trained by gensim {gensim.__version__}",
        "sha256": digest,  # of the tokens, one review a line
        "reviews": reviews,
        "tokens": count,
        "settings": asdict(settings),
    }
    return Source(told, _chunks(model))


def _write_sentences(texts: Iterable[str], path: Path) -> tuple[int, int]:
    """One review a line, its tokens separated by spaces. Returns reviews and tokens."""
    reviews = count = 0
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            found = tokens(text)
            reviews += 1
            count += len(found)
            file.write(" ".join(found) + "\n")
    return reviews, count


def _train(path: Path, *, name: str, settings: TrainingSettings, say: Callable[[str], None]) -> Any:
    with _quiet_gensim():
        model = Word2Vec(
            vector_size=settings.dimensions,
            window=settings.window,
            min_count=settings.min_count,
            alpha=settings.learning_rate,
            negative=settings.negative,
            seed=settings.seed,
            workers=settings.workers,
        )
        model.build_vocab(corpus_file=str(path))
        if not len(model.wv):
            raise InvalidInputError(
                f"no word occurs {settings.min_count} times in the training split",
                where=name,
                todo="ingest more reviews, or give a smaller --min-count",
            )
        model.train(
            corpus_file=str(path),
            total_examples=model.corpus_count,
            total_words=model.corpus_total_words,
            epochs=settings.epochs,
            callbacks=[_EpochLine(settings.epochs, say)],
        )
    return model.wv


class _EpochLine(CallbackAny2Vec):  # type: ignore[misc]
    def __init__(self, epochs: int, say: Callable[[str], None]) -> None:
        self._epochs = epochs
        self._say = say
        self._done = 0

    def on_epoch_end(self, model: Any) -> None:  # noqa: ARG002
        self._done += 1
        self._say(f"epoch {self._done}/{self._epochs}")


@contextlib.contextmanager
def _quiet_gensim() -> Iterator[None]:
    """Keep to itself what gensim logs: advice that a user cannot follow."""
    logger = logging.getLogger("gensim")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _chunks(vectors: Any) -> Iterator[Chunk]:
    words: list[str] = vectors.index_to_key
    for start in range(0, len(words), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        yield Chunk(words[rows], np.asarray(vectors.vectors[rows], dtype=np.float32))
