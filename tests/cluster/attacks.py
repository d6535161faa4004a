"""What somebody in the cluster's network, or inside a job, can try. Each prints JSON.

Runs on a test host: with the host's own Python, sent over SSH, or as a job of the cluster.
"""

import contextlib
import http.client
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

AT_ONCE = 30_000
SYN_SECONDS = 1.2  # long enough for a second SYN in place of a lost one
FORCED_BUFFER, PACKET_STATISTICS = (socket.SOL_SOCKET, 33), (263, 6)
BROADCAST_BYTES = 4 << 20


def scan(*addresses):
    """All TCP ports of the addresses that accept a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_once = min(AT_ONCE, most - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (at_once + 100, most))
    pairs = [(address, port) for port in range(1, 65536) for address in addresses]
    found = {address: [] for address in addresses}
    for start in range(0, len(pairs), at_once):
        for address, port in _accepted(pairs[start : start + at_once]):
            found[address].append(port)
    return found


def _accepted(pairs):
    """Those of the pairs that answer a SYN in time with anything but a refusal."""
    poll = select.epoll()
    tried = {}
    for pair in pairs:
        one = socket.socket()
        one.setblocking(False)
        number = one.connect_ex(pair)
        if number not in (0, 115):  # EINPROGRESS
            raise OSError(number, f"{pair}: {os.strerror(number)}")
        tried[one.fileno()] = (one, pair)
        poll.register(one, select.EPOLLOUT)
    deadline = time.monotonic() + SYN_SECONDS
    accepted = []
    while tried and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            one, pair = tried.pop(number)
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                accepted.append(pair)
            one.close()
    for one, _ in tried.values():
        one.close()
    return accepted


def connect(address, *ports):
    """What becomes of a connection to each port: "open", or the system's word for it."""
    outcome = {}
    for port in ports:
        try:
            socket.create_connection((address, int(port)), timeout=5).close()
            outcome[port] = "open"
        except OSError as error:
            outcome[port] = error.strerror or str(error)
    return outcome


def ask(*requests):
    """The status and the text of each page; a request is METHOD, URL, TOKEN, or METHOD, URL."""
    answers = []
    for request in requests:
        method, url, *token = request.split(" ")
        netloc, _, path = url.partition("/")
        connection = http.client.HTTPConnection(netloc, timeout=30)
        headers = {"Authorization": f"Bearer {token[0]}"} if token else {}
        connection.request(method, f"/{path}", headers=headers)
        answer = connection.getresponse()
        answers.append([answer.status, answer.read().decode("utf-8", "replace")])
        connection.close()
    return answers


def sniff(interface, until, *words):
    """Read along (as root) until a word passes by: which of the words did, how much by source."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.setsockopt(*FORCED_BUFFER, 256 << 20)
    link.bind((interface, 0))
    print("ready", flush=True)
    packets = []
    while until.encode() not in (packet := link.recv(1 << 17)):
        packets.append(packet)
    lost = int.from_bytes(link.getsockopt(*PACKET_STATISTICS, 8)[4:], sys.byteorder)
    sent = {}
    for packet in packets:
        source = socket.inet_ntoa(packet[26:30])
        sent[source] = sent.get(source, 0) + len(packet)
    everything = b"".join(packets)
    return {"lost": lost, "sent": sent, "seen": [w for w in words if w.encode() in everything]}


# ---------------------------------------------------------------- with Spark


def _context():
    from pyspark import SparkContext

    return SparkContext.getOrCreate()


def count(rows):
    """What an application comes to that is let in."""
    found = _context().parallelize(range(int(rows)), 4).map(lambda n: n % 7).filter(bool).count()
    return {"count": found}


def sleep(seconds):
    """Tasks of a second each, for so long."""

    def slow(numbers):
        time.sleep(1)
        yield sum(numbers)

    context = _context()
    for turn in range(int(seconds)):
        total = context.parallelize(range(99), 1).mapPartitions(slow).collect()
        print("TURN", turn, total, flush=True)


def broadcast(*words):
    """Send words to the executors in a broadcast, in a closure and back; nothing is compressed."""
    text = " ".join(words)
    large = (text + " ") * (BROADCAST_BYTES // len(text))
    context = _context()
    sent = context.broadcast(large)
    told = context.parallelize([0], 1).map(lambda _: [text, large_of(sent), text * 9]).collect()
    return {"arrived": told[0][1] == len(large) and told[0][0] == text}


def large_of(sent):
    return len(sent.value)


def confined(canary):
    """What the sandbox of a job lets through, in the driver and in a task."""
    task = _context().parallelize([0], 1).map(lambda _: attempts(canary)).collect()[0]
    return {"driver": attempts(canary), "task": task}


def attempts(canary):
    """Try what only root may do; `done` has what succeeded."""
    done = []

    def attempt(what, act):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            act()
            done.append(what)

    def command(*words):
        subprocess.run(words, capture_output=True, check=True)

    for place in ("/usr", "/etc", "/etc/sparkbundle", "/opt/sparkbundle", "/var/lib/sparkbundle"):
        attempt(f"write {place}", lambda place=place: Path(place, canary).write_text("x"))
    for place in ("/root", "/home", "/run"):
        attempt(f"write {place}", lambda place=place: Path(place, canary).write_text("x"))
    for place in ("/root", "/home"):
        attempt(f"list {place}", lambda place=place: list(Path(place).iterdir()))
    for path in (f"/home/{canary}", f"/tmp/{canary}", "/etc/shadow", "/proc/1/environ"):
        attempt(f"read {path}", lambda path=path: Path(path).read_bytes())
    attempt("sudo", lambda: command("sudo", "-n", "true"))
    attempt("setuid", lambda: command(f"/usr/local/bin/{canary}", "/etc/shadow"))
    attempt("make setuid", lambda: command("sh", "-c", "cp /bin/true mine && chmod u+s mine"))
    attempt("unshare", lambda: command("unshare", "--user", "--map-root-user", "true"))
    attempt("sniff", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close())
    Path("own.txt").write_text("a job may write here")
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "done": done,
        "status": dict(line.split(":\t", 1) for line in status if ":\t" in line),
        "sees": sorted({path.stat().st_uid for path in Path("/proc").glob("[0-9]*")}),
        "uid": os.getuid(),
    }


def main():
    name, *words = sys.argv[1:]
    told = globals()[name](*words)
    print("TOLD", json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
