"""Real hosts for the tests of `sparkbundle up`: bare Debian machines under Vagrant and LXC."""
