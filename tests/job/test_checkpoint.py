"""Checkpoints: whole or not there, of the same run or refused, the last ones and the best kept."""

import json
import shutil

import pytest

from sentiment import recipes
from sentiment.checkpoint import Best, Checkpoint, Checkpoints, locked_checkpoints
from sentiment.errors import LOCKED, InvalidInputError, SentimentError
from sentiment.loop import Measured
from tests.conftest import small_disk

from .test_rounds import small_job

RUN = {"corpus": "c" * 64, "recipe": {"epochs": 3}, "workers": 2}
STATE = small_job().first_state()


@pytest.fixture
def checkpoints(tmp_path):
    with locked_checkpoints(tmp_path / "m") as directory:
        yield Checkpoints(directory, run=RUN, keep=2)


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.directory.iterdir())


def test_what_is_read_is_what_was_written(checkpoints):
    best = Best(1, 4, Measured(reviews=3, loss=0.1 + 0.2))
    checkpoints.save(Checkpoint(4, STATE))
    checkpoints.save(Checkpoint(5, STATE, best))
    assert checkpoints.latest(pytest.fail) == Checkpoint(5, STATE, best)
    assert checkpoints.state_after(4) == STATE


def test_the_last_ones_and_the_best_stay(checkpoints):
    for rounds in range(1, 7):
        best = Best(1, 2, Measured()) if rounds >= 2 else None
        checkpoints.save(Checkpoint(rounds, STATE, best))
    assert names(checkpoints) == ["round-000002", "round-000005", "round-000006"]


def damage_state(path):
    data = bytearray((path / "state.safetensors").read_bytes())
    data[-7] ^= 4
    (path / "state.safetensors").write_bytes(data)


def half_state(path):
    data = (path / "state.safetensors").read_bytes()
    (path / "state.safetensors").write_bytes(data[: len(data) // 2])


def no_state(path):
    (path / "state.safetensors").unlink()


def empty_state(path):
    (path / "state.safetensors").write_bytes(b"")


def empty_description(path):
    (path / "checkpoint.json").write_bytes(b"")


def newer_format(path):
    about = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps({"format": about["format"] + 1}))


def no_object(path):
    (path / "checkpoint.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [
        damage_state,
        half_state,
        no_state,
        empty_state,
        empty_description,
        newer_format,
        no_object,
        shutil.rmtree,
    ],
)
def test_a_damaged_one_is_skipped_with_a_warning_and_the_one_before_is_used(checkpoints, damage):
    checkpoints.save(Checkpoint(1, STATE))
    damage(checkpoints.save(Checkpoint(2, STATE)))
    warnings = []
    assert checkpoints.latest(warnings.append) == Checkpoint(1, STATE)
    assert len(warnings) == (damage is not shutil.rmtree)
    assert all("round-000002" in warning for warning in warnings)


def test_one_whose_best_state_is_lost_is_no_place_to_go_on_from(checkpoints):
    checkpoints.save(Checkpoint(1, STATE))
    best = checkpoints.save(Checkpoint(2, STATE, Best(1, 2, Measured())))
    checkpoints.save(Checkpoint(3, STATE, Best(1, 2, Measured())))
    half_state(best)
    warnings = []
    assert checkpoints.latest(warnings.append) is None
    assert len(warnings) == 2


def test_nothing_to_go_on_from_is_none(checkpoints):
    assert checkpoints.latest(pytest.fail) is None


def test_another_run_is_named_and_refused(checkpoints):
    checkpoints.save(Checkpoint(1, STATE))
    other = Checkpoints(checkpoints.directory, run=RUN | {"corpus": "d" * 64, "workers": 3}, keep=2)
    with pytest.raises(InvalidInputError, match=r"corpus cccccccccccc…, not dddddddddddd…") as said:
        other.latest(pytest.fail)
    assert "workers 2, not 3" in str(said.value)


def test_two_runs_do_not_meet_and_an_empty_directory_is_not_left(tmp_path):
    with locked_checkpoints(tmp_path / "model") as directory:
        again = locked_checkpoints(tmp_path / "model")
        with pytest.raises(SentimentError, match="another run") as said, again:
            pass
        assert said.value.code == LOCKED
    assert directory == tmp_path / "model.checkpoints"
    assert not directory.exists()


def test_a_full_disk_is_named_and_the_last_good_one_is_read(tmp_path):
    with (
        small_disk(tmp_path / "disk", mebibytes=8),
        locked_checkpoints(tmp_path / "disk" / "m") as directory,
    ):
        checkpoints = Checkpoints(directory, run=RUN, keep=2)
        checkpoints.save(Checkpoint(1, STATE))
        with pytest.raises(SentimentError, match="No space left") as said:
            checkpoints.save(Checkpoint(2, bytes(16 << 20)))
        assert str(directory) in said.value.where
        assert checkpoints.latest(pytest.fail) == Checkpoint(1, STATE)
        checkpoints.save(Checkpoint(2, STATE))
        assert checkpoints.latest(pytest.fail).rounds == 2


def test_the_run_that_left_them_can_be_read(checkpoints):
    assert Checkpoints.recorded_run(checkpoints.directory) is None
    for rounds in (1, 2):
        checkpoints.save(Checkpoint(rounds, STATE))
    (checkpoints.directory / "round-000002" / "checkpoint.json").write_text("{")
    assert Checkpoints.recorded_run(checkpoints.directory) == RUN


def test_another_run_is_told_by_the_settings_that_differ(tmp_path):
    given = recipes.with_changes(recipes.quick(), learning_rate=0.001, epochs=9).to_json()
    usual = recipes.quick().to_json()
    with locked_checkpoints(tmp_path / "m") as directory:
        Checkpoints(directory, run={"recipe": usual}, keep=2).save(Checkpoint(4, STATE))
        with pytest.raises(InvalidInputError) as said:
            Checkpoints(directory, run={"recipe": given}, keep=2).latest(pytest.fail)
    assert "is of another run: epochs 3, not 9, learning_rate 0.003, not 0.001" in str(said.value)


def test_a_setting_that_is_given_as_it_is_anyway_is_the_same_run(tmp_path):
    same = recipes.with_changes(recipes.quick(), learning_rate=0.003).to_json()
    with locked_checkpoints(tmp_path / "m") as directory:
        run = {"recipe": recipes.quick().to_json()}
        Checkpoints(directory, run=run, keep=2).save(Checkpoint(4, STATE))
        assert Checkpoints(directory, run={"recipe": same}, keep=2).latest(pytest.fail)
