#!/usr/bin/python3 -IB
"""The jobs of this host: start, list, show, logs, cancel, stop, remove, prune (as root).

Written by sparkbundle. `sparkbundle submit`, `jobs`, `logs` and `cancel` call it over SSH.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from job_agent.main import main

main()
