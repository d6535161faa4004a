#!/usr/bin/python3
"""The NVIDIA GPUs of this host, for Spark's worker.

gpu.py settings FROM TO WANTED    write the worker's settings with the GPUs that it offers

WANTED is auto, none, a number, or addresses with a comma after each: "0,2,". A driver that fails
or hangs counts as no GPU, and what is not there is left out, with a line on stderr that says so:
the worker starts, offers what it has, and `sparkbundle status` shows what is missing.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# From here to find_gpus the same text as in sparkbundle/probe.py: neither can import the other.
NVIDIA_SECONDS = 20
NO_CARD = "NVIDIA's driver finds no card: see `dmesg` there"


def ask_nvidia(*words: str) -> "tuple[str, str]":
    """What nvidia-smi says, and what went wrong. One that hangs is killed with its children."""
    try:
        process = subprocess.Popen(
            ("nvidia-smi", *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return "", "nvidia-smi fails: %s" % error
    try:
        said = process.communicate(timeout=NVIDIA_SECONDS)[0].decode(errors="replace").strip()
    except BaseException as error:  # Ctrl-C, too: it is in a session of its own
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        # Waited for a moment only: what hangs inside the kernel does not end when it is killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        return "", "nvidia-smi hangs: no answer within %s s" % NVIDIA_SECONDS
    if process.returncode != 0:
        return said, "nvidia-smi fails (%d): %s" % (process.returncode, first_line(said))
    return said, ""


def first_line(text: str) -> str:
    """The first line of a text, cut short."""
    return (text.splitlines() or ["it says nothing"])[0][:120]


def parse_gpus(listing: str) -> "list[dict[str, str]]":
    """The GPUs that `nvidia-smi -L` lists: address, UUID, name, and the number of the card.

    The address is what CUDA_VISIBLE_DEVICES takes: the number of a whole card, the UUID of a
    MIG instance; a card that has instances cannot be used as a whole (NVIDIA's MIG User Guide).

    GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-...)
      MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-...)
    """
    found = []  # type: list[dict[str, str]]
    card = {}  # type: dict[str, str]
    for line in listing.splitlines():
        whole = re.match(r"GPU (\d+): (.*) \(UUID: (\S+)\)\s*$", line)
        part = re.match(r"\s+(MIG \S+)\s+Device\s+\d+: \(UUID: (\S+)\)\s*$", line)
        if whole:
            number, name, uuid = whole.groups()
            card = {"address": number, "uuid": uuid, "name": name, "card": number}
            found.append(card)
        elif part and card:
            if found[-1] is card:
                found.pop()
            name, uuid = card["name"] + " " + part.group(1), part.group(2)
            found.append({"address": uuid, "uuid": uuid, "name": name, "card": card["card"]})
    return found


def find_gpus() -> "tuple[list[dict[str, str]], str]":
    """The GPUs of this host, and why there are none where NVIDIA's driver is there."""
    if shutil.which("nvidia-smi") is None:
        return [], ""
    said, fault = ask_nvidia("-L")
    if re.match("No devices (were )?found", said):
        return [], NO_CARD
    found = [] if fault else parse_gpus(said)
    if not found and not fault:
        fault = "nvidia-smi -L lists no GPUs, it says: " + first_line(said)
    return found, fault


def chosen(wanted: str, gpus: list[dict[str, str]]) -> list[str]:
    """The addresses to offer: none, all, the first of them, or those that are asked for and there.

    A whole card may be asked for by its number and by its UUID: it is offered once, as it is
    asked for. The same choice is made in sparkbundle/host_gpus.py, for the plan.
    """
    addresses = [one["address"] for one in gpus]
    if "," not in wanted:
        amount = {"auto": len(gpus), "none": 0}.get(wanted)
        return addresses[: int(wanted) if amount is None else amount]
    names = {one[key]: one["address"] for one in gpus for key in ("uuid", "address")}
    offered: dict[str, str] = {}
    for word in asked(wanted):
        if word in names:
            offered.setdefault(names[word], word)
    return list(offered.values())


def asked(wanted: str) -> list[str]:
    """The addresses in "0,2,"."""
    return [word for word in wanted.split(",") if word]


def complaint(wanted: str, gpus: list[dict[str, str]], fault: str) -> str:
    """Why the worker offers less than it shall; empty where it does not."""
    offered = chosen(wanted, gpus)
    number = len(asked(wanted)) if "," in wanted else int(wanted) if wanted.isdecimal() else 0
    if not fault and len(offered) >= number:
        return ""
    there = fault or "nvidia-smi shows " + (", ".join(one["address"] for one in gpus) or "none")
    return f"GPUs wanted: {wanted}; offered: {', '.join(offered) or 'none'}; {there}"


def settings(source: str, target: str, wanted: str) -> None:
    """Write `target`: the settings of `source`, and the GPUs that are both wanted and there.

    Spark reads the addresses in the file that spark.worker.resourcesFile names, a JSON array of
    ResourceAllocation (Spark: ResourceUtils.parseAllocatedFromJsonFile), and asks nobody else.
    """
    gpus, fault = ([], "") if wanted == "none" else find_gpus()
    if why := complaint(wanted, gpus, fault):
        print(why, file=sys.stderr)
    text = Path(source).read_text(encoding="utf-8")
    if offered := chosen(wanted, gpus):
        resources = Path(target).absolute().with_name("resources.json")
        name = {"componentName": "spark.worker", "resourceName": "gpu"}
        write(resources, json.dumps([{"id": name, "addresses": offered}]))
        text += f"spark.worker.resource.gpu.amount={len(offered)}\n"
        text += f"spark.worker.resourcesFile={resources}\n"
    write(Path(target), text)


def write(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    aside = path.with_name(path.name + ".new")
    aside.touch(mode=0o600)
    aside.write_text(text, encoding="utf-8")
    aside.rename(path)


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] != "settings":
        sys.exit(__doc__)
    settings(*sys.argv[2:])
