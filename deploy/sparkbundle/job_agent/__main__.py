"""`python -m sparkbundle.job_agent`: the jobs of a cluster on this machine."""

from sparkbundle.job_agent.main import main

main()
