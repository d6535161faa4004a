"""The commands of `sparkbundle`, one file each: options and one call into a module."""

import click

from sparkbundle.commands.config import config
from sparkbundle.commands.demo import demo
from sparkbundle.commands.down import down
from sparkbundle.commands.status import status
from sparkbundle.commands.up import up

COMMANDS: tuple[click.Command, ...] = (up, status, down, config, demo)
