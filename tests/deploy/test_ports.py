import os
import socket

import pytest

from sparkbundle import ports
from sparkbundle.errors import PREFLIGHT, PreflightError


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_is_taken_names_its_holder(taken: int):
    assert not ports.is_free(taken)
    with pytest.raises(PreflightError) as caught:
        ports.require_free(taken, option="--ui-port")
    assert caught.value.code == PREFLIGHT
    assert f"port {taken} is taken by process {os.getpid()}" in caught.value.what
    assert "--ui-port" in caught.value.todo


def test_a_port_that_our_own_processes_will_leave_is_free_enough(taken: int):
    ports.require_free(taken, option="--ui-port", but_held_by={os.getpid()})


def test_a_chosen_port_is_free_and_not_one_of_those_in_use():
    first = ports.choose_free()
    assert ports.is_free(first)
    assert ports.choose_free(but=frozenset({first})) != first


def test_a_listener_on_every_address_counts():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert not ports.is_free(server.getsockname()[1])
