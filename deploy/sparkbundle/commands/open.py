"""`sparkbundle open`."""

import sys
import threading
from pathlib import Path

import click

from sparkbundle import opening
from sparkbundle.commands.host_options import hosts_or_here
from sparkbundle.commands.options import inventory_option, json_option, name_option
from sparkbundle.output import print_json, stderr_console
from sparkbundle.proxy import Proxy


@click.command("open")
@click.argument("page", type=click.Choice((opening.SPARK, opening.HISTORY, opening.APP)))
@inventory_option
@name_option("Name of the cluster on this machine, where no inventory is given.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option(
    "--port",
    type=click.IntRange(1024, 65535),
    show_default="a free one",
    help="Port of 127.0.0.1 at which the page is shown.",
)
@json_option
@click.pass_context
def open_page(
    context: click.Context,
    *,
    page: str,
    inventory: Path | None,
    name: str,
    no_browser: bool,
    port: int | None,
    as_json: bool,
) -> None:
    """Open a web page of the cluster in your browser, until Ctrl-C.

    PAGE is spark (the master, its workers, running applications), history (ended
    applications) or app (the newest running application). The pages are shown at an
    address of this machine, over SSH, to the one browser that comes with the key in it.

    \b
    Examples:
      sparkbundle open spark
      sparkbundle open history -i hosts.yml
      sparkbundle open app -i hosts.yml --no-browser --port 8080
    """
    asked = opening.OpenOptions(
        page=page, inventory=hosts_or_here(context, inventory), name=name, port=port or 0
    )
    with opening.opened(asked) as proxy:
        try:
            _announce(proxy, page=page, as_json=as_json)
            _tell(shown=not no_browser and opening.show(proxy.url), wanted=not no_browser)
            threading.Event().wait()
        except KeyboardInterrupt:
            stderr_console().print(f"closed: {proxy.netloc} no longer answers")


def _announce(proxy: Proxy, *, page: str, as_json: bool) -> None:
    if as_json:
        print_json({"url": proxy.url, "page": page, "port": proxy.server_port})
    else:
        click.echo(proxy.url)
    sys.stdout.flush()


def _tell(*, shown: bool, wanted: bool) -> None:
    console = stderr_console()
    if wanted and not shown:
        console.print("no browser can be opened here: open the address above in yours")
    console.print("the address lets one browser in, once; Ctrl-C ends it")
