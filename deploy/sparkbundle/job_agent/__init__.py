"""What keeps the jobs where they run: on the host of the master, or on this machine.

It uses the standard library of Python 3.11 only and imports nothing of the rest of
sparkbundle: the role `jobs` copies this folder to /opt/sparkbundle/libexec as it is.
"""
