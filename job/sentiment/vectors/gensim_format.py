"""Reads what gensim's `save` writes, without running what is in it.

Such a save is a Python pickle, and often .npy files beside it. A pickle is a program: all
that it may call here are a few classes that keep what they are given and do nothing.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sentiment.errors import InvalidInputError
from sentiment.vectors.chunk import Chunk

_CHUNK_BYTES: Final = 8 << 20
_FLOATS: Final = ("f2", "f4", "f8")
_AS_WORD2VEC: Final = (
    "where you trust the file, write it anew with gensim: "
    "KeyedVectors.save_word2vec_format('vectors.bin', binary=True)"
)


@dataclass(frozen=True)
class GensimSave:
    """The words of a save, and what opens the matrix of their vectors.

    `matrix_path` is the file of that matrix, None where it is in the pickle.
    """

    kind: str
    words: list[str]
    matrix: Callable[[], NDArray[Any]]
    matrix_path: Path | None
    path: Path

    def chunks(self, progress: Callable[[float], None]) -> Iterator[Chunk]:
        """The words and vectors. A file is mapped anew for each chunk, so that none of it is held.

        Raises:
            InvalidInputError: the matrix is none, or not one of these words.
        """
        for start in range(0, len(self.words), step := self._chunk_rows()):
            stop = start + step
            yield Chunk(
                self.words[start:stop],
                self.matrix()[start:stop].astype(np.float32),
                where=lambda index, first=start: f"{self.path}: row {first + index}",  # type: ignore[misc]
            )
            progress(min(1.0, stop / len(self.words)))

    def _chunk_rows(self) -> int:
        shape = self.matrix().shape
        if len(shape) != 2 or shape[0] != len(self.words) or shape[1] == 0:  # noqa: PLR2004
            raise InvalidInputError(
                f"its {len(self.words)} words come with a matrix of shape {shape}",
                where=str(self.matrix_path or self.path),
                todo="save it anew",
            )
        return int(max(1, _CHUNK_BYTES // (4 * shape[1])))


def read_save(stream: IO[bytes], path: Path) -> GensimSave:
    """The save whose pickle is `stream`, the unpacked content of the file at `path`.

    All that is in the pickle is held in memory: the vocabulary, and vectors that have
    no file of their own (gensim gives them one from 10 MB on).

    Raises:
        InvalidInputError: the pickle asks for something else than gensim's objects and NumPy's
            arrays, is damaged, or holds no word vectors; a file is missing beside it.
    """
    model = _unpickled(stream, path)
    if not isinstance(model, _Inert):
        raise _no_vectors(path, "is a Python pickle, and no save of gensim's")
    keyed, place = model, path.name
    if isinstance(model.content.get("wv"), _Inert):
        keyed, place = model.content["wv"], f"{path.name}.wv"
    kind = type(keyed).__name__
    if "FastText" in kind or "FastText" in type(model).__name__:
        raise _no_vectors(path, f"is a save of {kind}, whose vectors gensim computes as it loads")
    words = _words(keyed.content, path)
    matrix_path = _file_of_matrix(keyed.content, path.with_name(place))
    matrix = _mapped(matrix_path) if matrix_path else _inside(keyed.content, path)
    return GensimSave(type(model).__name__, words, matrix, matrix_path, path)


class _Inert:
    """What stands for an object of a pickle: it keeps its attributes, all else goes nowhere."""

    __slots__ = ("content",)

    def __new__(cls, *_: object, **__: object) -> Self:
        made = super().__new__(cls)
        made.content = {}
        return made

    def __init__(self, *_: object, **__: object) -> None:
        self.content: dict[str, Any]

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.content = state

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def extend(self, values: object) -> None:
        pass


class _Text(_Inert):
    """Stands for `_codecs.encode`, by which Python 2's protocol writes bytes."""

    def __new__(cls, text: object = "", *_: object, **__: object) -> Any:
        return text.encode("latin-1") if isinstance(text, str) else b""


class _Dtype(_Inert):
    """Stands for numpy.dtype: keeps the type's letters and the byte order."""

    def __init__(self, letters: object = "", *_: object, **__: object) -> None:
        self.content = {"letters": letters, "order": "<"}

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.content["order"] = state[1]


class _Array(_Inert):
    """Stands for an array; `array` makes it one if it is of floating-point numbers."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5:  # noqa: PLR2004
            _, shape, dtype, by_columns, data = state
            self.content = {
                "shape": shape,
                "dtype": dtype,
                "data": data,
                "order": "F" if by_columns else "C",
            }

    def array(self) -> NDArray[Any]:
        """The array.

        Raises:
            ValueError, TypeError: it holds something else than numbers, or too few.
        """
        dtype, data = self.content.get("dtype"), self.content.get("data")
        if not isinstance(dtype, _Dtype) or dtype.content["letters"] not in _FLOATS:
            raise ValueError("its vectors are not floating-point numbers")
        if isinstance(data, str):  # Python 2's
            data = data.encode("latin-1")
        if not isinstance(data, bytes | bytearray):
            raise TypeError("its vectors are not bytes")
        values = np.frombuffer(data, dtype.content["order"] + dtype.content["letters"])
        return values.reshape(self.content["shape"], order=self.content["order"])


class _ArrayFromBuffer(_Array):
    """Stands for the function that pickles of protocol 5 make arrays with."""

    def __init__(
        self, data: object = b"", dtype: object = None, shape: object = (), order: object = "C"
    ) -> None:
        self.content = {"shape": shape, "dtype": dtype, "data": data, "order": order}


_STAND_INS: Final[Mapping[tuple[str, str], type[_Inert]]] = {
    ("_codecs", "encode"): _Text,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Inert,
    ("numpy", "float64"): _Inert,
    ("numpy", "float32"): _Inert,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Inert),
            ("numeric", "_frombuffer", _ArrayFromBuffer),
        )
    },
    # What models keep beside their vectors: nothing of it is read.
    **{
        (module, name): _Inert
        for module in ("builtins", "__builtin__")
        for name in ("hash", "int", "long", "set", "frozenset", "object")
    },
    ("collections", "defaultdict"): _Inert,
    ("UserString", "defaultdict"): _Inert,  # so written by a Python 3 for Python 2
    ("collections", "OrderedDict"): _Inert,
    ("numpy.random", "__RandomState_ctor"): _Inert,
    ("numpy.random._pickle", "__randomstate_ctor"): _Inert,
    ("numpy.random._pickle", "__generator_ctor"): _Inert,
    ("numpy.random._pickle", "__bit_generator_ctor"): _Inert,
    ("numpy.random._mt19937", "MT19937"): _Inert,
    ("numpy.random._pcg64", "PCG64"): _Inert,
}


class _Harmless(pickle.Unpickler):
    """Makes the objects of a pickle out of stand-ins, and nothing else."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream, encoding="latin-1")  # as gensim reads those of Python 2
        self._path = path
        self._gensims: dict[tuple[str, str], type[_Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        if module.partition(".")[0] != "gensim":
            raise InvalidInputError(
                f"is a Python pickle that asks for {module}.{name}, which no save of word vectors "
                "needs: nothing of it was run",
                where=str(self._path),
                todo=_AS_WORD2VEC,
            )
        if (module, name) not in self._gensims:
            self._gensims[module, name] = type(name, (_Inert,), {"__slots__": ()})
        return self._gensims[module, name]


def _unpickled(stream: IO[bytes], path: Path) -> Any:
    try:
        return _Harmless(stream, path).load()
    except (InvalidInputError, OSError):
        raise
    except Exception as error:  # whatever a damaged pickle leads to
        raise _no_vectors(
            path, f"is a damaged Python pickle ({type(error).__name__}: {error})"
        ) from error


def _words(content: Mapping[str, Any], path: Path) -> list[str]:
    for name in ("index_to_key", "index2word", "index2entity"):
        words = content.get(name)
        if isinstance(words, list) and words:
            break
    else:
        raise _no_vectors(path, "is a save of gensim's that holds no words")
    for row, word in enumerate(words):
        if not isinstance(word, str):
            raise InvalidInputError(
                f"the key {word!r:.40} is no text", where=f"{path}: row {row}", todo="save it anew"
            )
    return words


def _file_of_matrix(content: Mapping[str, Any], path: Path) -> Path | None:
    """The .npy file that holds the vectors, None where the pickle does."""
    apart = [
        name
        for name in ("vectors", "syn0")
        if name in (content.get("__numpys") or ()) and content.get(name) is None
    ]
    if not apart:
        return None
    found = path.with_name(f"{path.name}.{apart[0]}.npy")
    if not found.is_file():
        packed = found.with_suffix(".npz")
        if packed.is_file():
            raise _no_vectors(packed, "is packed, and so cannot be mapped")
        raise InvalidInputError(
            "is missing: the vectors of this save are in it",
            where=str(found),
            todo=f"bring all files that gensim wrote beside {path.name}",
        )
    return found


def _mapped(path: Path) -> Callable[[], NDArray[Any]]:
    def opened() -> NDArray[Any]:
        try:
            # Takes .npy only, and no Python objects.
            matrix = np.lib.format.open_memmap(path, mode="r")
            if matrix.dtype.str[1:] not in _FLOATS:
                raise ValueError(f"it holds {matrix.dtype}, no floating-point numbers")
        except (ValueError, TypeError, EOFError) as error:
            raise InvalidInputError(
                f"is no matrix of word vectors: {str(error).splitlines()[0]}",
                where=str(path),
                todo="get it again, or save it anew",
            ) from error
        return matrix

    opened()
    return opened


def _inside(content: Mapping[str, Any], path: Path) -> Callable[[], NDArray[Any]]:
    found = content.get("vectors", content.get("syn0"))
    if not isinstance(found, _Array):
        raise _no_vectors(path, "is a save of gensim's that holds no vectors")
    try:
        matrix = found.array()
    except (ValueError, TypeError) as error:
        raise _no_vectors(path, f"is a damaged save of gensim's: {error}") from error
    return lambda: matrix


def _no_vectors(path: Path, what: str) -> InvalidInputError:
    return InvalidInputError(what, where=str(path), todo=_AS_WORD2VEC)
