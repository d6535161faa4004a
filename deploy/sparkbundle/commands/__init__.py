"""The commands of `sparkbundle`, one file each: options and one call into a module."""

import click

from sparkbundle.commands.add import add
from sparkbundle.commands.cancel import cancel
from sparkbundle.commands.check import check
from sparkbundle.commands.config import config
from sparkbundle.commands.demo import demo
from sparkbundle.commands.down import down
from sparkbundle.commands.jobs import jobs
from sparkbundle.commands.logs import logs
from sparkbundle.commands.open import open_page
from sparkbundle.commands.pull import pull
from sparkbundle.commands.push import push
from sparkbundle.commands.remove import remove
from sparkbundle.commands.restart import restart
from sparkbundle.commands.resume import resume
from sparkbundle.commands.run import run
from sparkbundle.commands.ssh import ssh
from sparkbundle.commands.status import status
from sparkbundle.commands.submit import submit
from sparkbundle.commands.up import up
from sparkbundle.commands.vectors import vectors
from sparkbundle.commands.watch import watch

COMMANDS: tuple[click.Command, ...] = (
    up,
    check,
    status,
    restart,
    add,
    remove,
    down,
    config,
    submit,
    jobs,
    logs,
    watch,
    cancel,
    resume,
    vectors,
    ssh,
    run,
    push,
    pull,
    open_page,
    demo,
)
