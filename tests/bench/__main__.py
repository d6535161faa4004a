"""`make bench`: training, then scoring, on this machine; or `python -m tests.bench.NAME --help`."""

from tests.bench import score, train

if __name__ == "__main__":
    train.main(["--on", "embedded"], standalone_mode=False)
    score.run()
