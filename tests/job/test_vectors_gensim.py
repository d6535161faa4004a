"""What gensim's `save` writes is read to the same values, and nothing in it is run."""

import gzip
import io
import os
import pickle
import pickletools
import shutil

import numpy as np
import pytest
from gensim.models import FastText, KeyedVectors, Word2Vec
from gensim.utils import unpickle

from sentiment.errors import InvalidInputError
from sentiment.vectors import write_table
from sentiment.vectors.source import open_source
from tests.job.vector_files import GENSIM_DATA, run, some_vectors

WORDS = ["the", "film", "Ärger", "a b", "\u2028"]


def build(path, target):
    opened = open_source(str(path), progress=lambda share: None)
    return write_table(
        target, opened.chunks, source=opened.about, also=opened.also, dtype="fp32", replace=True
    )


def keyed(words=WORDS, dimensions=3):
    made = KeyedVectors(dimensions)
    made.add_vectors(words, some_vectors(len(words), dimensions))
    return made


def assert_same(table, theirs):
    assert list(table.words()) == theirs.index_to_key
    np.testing.assert_array_equal(table.vectors(np.arange(table.rows)), theirs.vectors)


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture
def bomb(canary):
    class Bomb:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    return Bomb()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("sep_limit", [1, 1 << 30])
def test_keyed_vectors(tmp_path, protocol, sep_limit):
    theirs = keyed()
    theirs.save(str(tmp_path / "v.kv"), pickle_protocol=protocol, sep_limit=sep_limit)
    assert (tmp_path / "v.kv.vectors.npy").exists() == (sep_limit == 1)
    table = build(tmp_path / "v.kv", tmp_path / "t")
    assert_same(table, theirs)
    told = table.manifest.source
    assert (told["name"], told["format"]) == ("v.kv", "gensim KeyedVectors")
    assert ("matrix_sha256" in told) == (sep_limit == 1)


@pytest.mark.parametrize("sep_limit", [1, 1 << 30])
@pytest.mark.parametrize("settings", [{}, {"hs": 1, "negative": 0}, {"sg": 1}])
def test_a_whole_model(tmp_path, sep_limit, settings):
    model = Word2Vec([["a", "film"], ["the", "film"]] * 9, vector_size=4, min_count=1, **settings)
    model.save(str(tmp_path / "m.model"), sep_limit=sep_limit)
    assert (tmp_path / "m.model.wv.vectors.npy").exists() == (sep_limit == 1)
    assert_same(build(tmp_path / "m.model", tmp_path / "t"), model.wv)


def test_a_directory_with_one_save(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    theirs = keyed()
    theirs.save(str(folder / "v.kv"), sep_limit=1)
    (folder / "README.txt").write_text("mine")
    assert_same(build(folder, tmp_path / "t"), theirs)
    theirs.save(str(folder / "w.kv"))
    with pytest.raises(InvalidInputError, match=r"holds several Python pickles: v.kv, w.kv"):
        build(folder, tmp_path / "t")


def test_chunks_are_no_larger_than_they_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr("sentiment.vectors.gensim_format._CHUNK_BYTES", 40)
    theirs = keyed([f"w{i}" for i in range(20)])
    theirs.save(str(tmp_path / "v.kv"), sep_limit=1)
    opened = open_source(str(tmp_path / "v.kv"), progress=lambda share: None)
    chunks = list(opened.chunks)
    assert [len(chunk.words) for chunk in chunks] == [3] * 6 + [2]
    assert chunks[1].where(0).endswith("v.kv: row 3")
    assert_same(build(tmp_path / "v.kv", tmp_path / "t"), theirs)


def test_a_packed_save(tmp_path):
    theirs = keyed()
    theirs.save(str(tmp_path / "v.kv"))
    (tmp_path / "v.gz").write_bytes(gzip.compress((tmp_path / "v.kv").read_bytes()))
    assert_same(build(tmp_path / "v.gz", tmp_path / "t"), theirs)
    theirs.save(str(tmp_path / "w.gz"), sep_limit=1)
    with pytest.raises(InvalidInputError, match=r"w.gz.vectors.npz: is packed"):
        build(tmp_path / "w.gz", tmp_path / "t")


@pytest.mark.parametrize(
    "name",
    [
        "word2vec_3.3",
        "word2vec_old",
        "word2vec_old_sep",
        "model-from-gensim-3.8.0.w2v",
        "old_keyedvectors_320.dat",
        *(f"old_w2v_models/w2v_{v}.mdl" for v in ("0.13.4", "1.0.0", "2.0.0", "3.0.0", "3.4.0")),
    ],
)
def test_saves_of_old_gensims(tmp_path, name):
    theirs = KeyedVectors.load(str(GENSIM_DATA / name))
    assert_same(build(GENSIM_DATA / name, tmp_path / "t"), getattr(theirs, "wv", theirs))


@pytest.mark.parametrize(
    "name",
    [
        *(f"word2vec_pre_kv{sep}_{py}" for sep in ("", "_sep") for py in ("py2", "py3", "py3_4")),
        "w2v-lee-v0.12.0",
        "old_w2v_models/w2v_0.12.0.mdl",
    ],
)
def test_saves_from_before_there_were_keyed_vectors(tmp_path, name):
    """gensim itself unpickles them and then fails: their model has no `wv`."""
    theirs = unpickle(str(GENSIM_DATA / name))
    beside = GENSIM_DATA / f"{name}.syn0.npy"
    table = build(GENSIM_DATA / name, tmp_path / "t")
    assert list(table.words()) == theirs.index2word
    expected = np.load(beside) if beside.exists() else theirs.syn0
    np.testing.assert_array_equal(table.vectors(np.arange(table.rows)), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ft_kv_3.6.0.model.gz", "is a save of FastTextKeyedVectors, whose vectors gensim comp"),
        ("fasttext_old", "is a save of FastTextKeyedVectors"),
        ("phraser-3.6.0.model", "holds no words"),
        ("lda_3_0_1_model", "holds no words"),
        ("tfidf_model.tst", "asks for functools.partial"),
    ],
)
def test_gensims_saves_of_other_things(tmp_path, name, message):
    with pytest.raises(InvalidInputError, match=message):
        build(GENSIM_DATA / name, tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


def test_fasttext_of_today_is_refused_with_what_to_do(tmp_path):
    model = FastText([["a", "film"]] * 9, vector_size=4, min_count=1, bucket=10)
    model.save(str(tmp_path / "m.model"))
    model.wv.save(str(tmp_path / "v.kv"))
    for name in ("m.model", "v.kv"):
        with pytest.raises(InvalidInputError, match=r"FastText.*\n.*save_word2vec_format"):
            build(tmp_path / name, tmp_path / "t")


# --- nothing is run


def assert_refused(ended, *said):
    assert ended.returncode == 3, ended.stderr
    for part in said:
        assert part in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bomb_is_refused_by_name(tmp_path, bomb, canary, protocol):
    (tmp_path / "v.kv").write_bytes(pickle.dumps(bomb, protocol))
    ended = run("build", tmp_path / "v.kv", tmp_path / "t")
    assert_refused(ended, "v.kv: is a Python pickle that asks for", "open", "nothing of it was run")
    assert not canary.exists()


def test_a_bomb_inside_a_real_save(tmp_path, bomb, canary):
    theirs = keyed()
    theirs.expandos = {"mine": bomb}
    theirs.save(str(tmp_path / "v.kv"))
    assert_refused(run("build", tmp_path / "v.kv", tmp_path / "t"), "asks for", "open")
    assert not canary.exists()
    assert not (tmp_path / "t").exists()


def test_a_bomb_in_the_matrix(tmp_path, bomb, canary):
    keyed(["a"]).save(str(tmp_path / "v.kv"), sep_limit=1)
    matrix = tmp_path / "v.kv.vectors.npy"
    objects = io.BytesIO()
    np.save(objects, np.array([[bomb]], dtype=object), allow_pickle=True)
    for data in (objects.getvalue(), pickle.dumps(bomb)):
        matrix.write_bytes(data)
        ended = run("build", tmp_path / "v.kv", tmp_path / "t")
        assert_refused(ended, f"{matrix}: is no matrix of word vectors")
        assert not canary.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy", "load"),
        ("gensimx", "load"),
        ("sentiment.files", "write_file"),
    ],
)
def test_what_a_pickle_may_not_call(tmp_path, module, name):
    def text(value):
        return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()

    data = pickle.PROTO + b"\4" + text(module) + text(name) + pickle.STACK_GLOBAL + b")R."
    pickletools.dis(data, out=io.StringIO())  # it is well-formed
    (tmp_path / "v.kv").write_bytes(data)
    with pytest.raises(InvalidInputError, match=f"asks for {module}.{name}"):
        build(tmp_path / "v.kv", tmp_path / "t")


def test_gensims_own_functions_are_not_called_either(tmp_path, bomb, canary):
    """`gensim.utils.unpickle(FILE)` would load another pickle."""
    (tmp_path / "inner").write_bytes(pickle.dumps(bomb))
    inner = str(tmp_path / "inner").encode()
    data = b"\x80\x02cgensim.utils\nunpickle\nX" + len(inner).to_bytes(4, "little") + inner
    (tmp_path / "v.kv").write_bytes(data + b"\x85R.")
    with pytest.raises(InvalidInputError, match="holds no words"):
        build(tmp_path / "v.kv", tmp_path / "t")
    assert not canary.exists()


# --- damage


def test_a_save_without_its_matrix_names_the_file(tmp_path):
    keyed().save(str(tmp_path / "v.kv"), sep_limit=1)
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "v.kv", tmp_path / "alone")
    ended = run("build", tmp_path / "alone" / "v.kv", tmp_path / "t")
    assert_refused(
        ended, f"{tmp_path / 'alone' / 'v.kv.vectors.npy'}: is missing", "beside v.kv", "do:"
    )


def test_a_save_that_is_cut_off_or_garbled(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # of 300 tables, which nobody keeps
    keyed().save(str(tmp_path / "v.kv"))
    whole = (tmp_path / "v.kv").read_bytes()
    rng = np.random.default_rng(3)
    for number in range(300):
        data = bytearray(whole[: len(whole) * 2 // 3] if number == 0 else whole)
        data[int(rng.integers(2, len(data)))] ^= int(rng.integers(1, 256))
        (tmp_path / "v.kv").write_bytes(data)
        try:
            build(tmp_path / "v.kv", tmp_path / "t")
        except InvalidInputError as error:
            assert "v.kv" in error.where  # any other kind of error fails the test
    (tmp_path / "v.kv").write_bytes(whole[:-100])
    with pytest.raises(InvalidInputError, match="is a damaged Python pickle"):
        build(tmp_path / "v.kv", tmp_path / "t")


def test_a_matrix_that_does_not_belong_to_its_words(tmp_path):
    keyed().save(str(tmp_path / "v.kv"), sep_limit=1)
    matrix = tmp_path / "v.kv.vectors.npy"
    cases = [
        (np.ones((4, 3), np.float32), r"5 words come with a matrix of shape \(4, 3\)"),
        (np.ones(5, np.float32), r"of shape \(5,\)"),
        (np.ones((5, 0), np.float32), r"is no matrix|of shape \(5, 0\)"),
        (np.ones((5, 3), np.int32), "it holds int32"),
        (np.full((5, 3), np.nan, np.float32), "v.kv: row 0: value 1 of 'the' is nan"),
    ]
    for values, message in cases:
        np.save(matrix, values)
        with pytest.raises(InvalidInputError, match=message):
            build(tmp_path / "v.kv", tmp_path / "t")
    np.save(matrix, np.ones((5, 3), np.float64))  # as PoincareKeyedVectors are
    assert build(tmp_path / "v.kv", tmp_path / "t").rows == 5
    np.save(matrix, np.ones((5, 3), np.float32))
    matrix.write_bytes(matrix.read_bytes()[:-4])
    with pytest.raises(InvalidInputError, match="is no matrix of word vectors"):
        build(tmp_path / "v.kv", tmp_path / "t")


def test_keys_that_are_no_words(tmp_path):
    made = KeyedVectors(2)
    made.add_vectors([3, 4], np.ones((2, 2), np.float32))
    made.save(str(tmp_path / "v.kv"))
    with pytest.raises(InvalidInputError, match="row 0: the key 3 is no text"):
        build(tmp_path / "v.kv", tmp_path / "t")
