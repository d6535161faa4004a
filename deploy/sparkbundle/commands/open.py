"""`sparkbundle open`."""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from sparkbundle import board, notebook, notebook_hosts, opening, state
from sparkbundle.commands.host_options import hosts_or_here
from sparkbundle.commands.jobs import chosen
from sparkbundle.commands.options import inventory_option, json_option, name_option
from sparkbundle.files import write_private
from sparkbundle.jobs import Target, find
from sparkbundle.output import Steps, print_json, stderr_console
from sparkbundle.ports import HOST


@click.command("open")
@click.argument("page", type=click.Choice(opening.PAGES))
@click.argument("job", required=False)
@inventory_option
@name_option("Name of the cluster on this machine, where no inventory is given.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option(
    "--port",
    type=click.IntRange(1024, 65535),
    show_default="a free one",
    help="Port of 127.0.0.1 at which the page is shown.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="~/sparkbundle-notebooks",
    help="Folder of the notebooks.",
)
@json_option
@click.pass_context
def open_page(
    context: click.Context,
    *,
    page: str,
    job: str | None,
    inventory: Path | None,
    name: str,
    no_browser: bool,
    port: int | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Open a web page of the cluster in your browser.

    PAGE is notebook (JupyterLab, with Spark ready), board (TensorBoard of a JOB, which is an id,
    the beginning of one, or "last"), spark (the master, its workers, running applications),
    history (ended applications) or app (the newest running application).
    Spark's pages are shown until Ctrl-C at an address of this machine, over SSH, to the one
    browser that comes with the key in it. The notebook server on this machine is begun when it
    is first opened, and ends with the cluster; that of hosts is shown until Ctrl-C, over SSH.

    \b
    Examples:
      sparkbundle open notebook
      sparkbundle open notebook -i hosts.yml
      sparkbundle open board -i hosts.yml last
      sparkbundle open spark
      sparkbundle open history -i hosts.yml
      sparkbundle open app -i hosts.yml --no-browser --port 8080
    """
    if job is not None and page != opening.BOARD:
        raise click.UsageError(f"JOB is for board, not for {page}")
    if folder is not None and page != opening.NOTEBOOK:
        raise click.UsageError("--folder is for notebook")
    if page == opening.BOARD:
        with chosen(context, inventory=inventory, name=name) as target:
            _open_board(target, job or "last", port=port, no_browser=no_browser, as_json=as_json)
        return
    inventory = hosts_or_here(context, inventory)
    if page == opening.NOTEBOOK:
        if inventory is not None:
            if folder is not None:
                raise click.UsageError("on hosts the folder is fixed: leave --folder out")
            _open_notebook_of_hosts(inventory, port=port, no_browser=no_browser, as_json=as_json)
            return
        _open_notebook(name, folder=folder, port=port, no_browser=no_browser, as_json=as_json)
        return
    asked = opening.OpenOptions(page=page, inventory=inventory, name=name, port=port or 0)
    with opening.opened(asked) as proxy, _until_interrupted(proxy.server_port):
        _announce(proxy.url, page=page, port=proxy.server_port, as_json=as_json)
        _show(proxy.url, wanted=not no_browser)
        stderr_console().print("the address lets one browser in, once; Ctrl-C ends it")


def _open_notebook(
    name: str, *, folder: Path | None, port: int | None, no_browser: bool, as_json: bool
) -> None:
    with Steps(total=1).step("start the notebook server") as step:
        server = notebook.ensure(name, folder=folder, port=port, step=step)
    _announce(server.url, page=opening.NOTEBOOK, port=server.port, as_json=as_json)
    _sign_in(server.url, notebook.redirect_file(state.cluster_place(name)), wanted=not no_browser)
    stderr_console().print(
        "the address signs in whoever has it; the server ends with: "
        f"sparkbundle down{state.by_name(name)}"
    )


def _open_notebook_of_hosts(
    inventory: Path, *, port: int | None, no_browser: bool, as_json: bool
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(notebook_hosts.opened(inventory, port=port))
        closes = ""
        if server.tunnel:
            stack.callback(server.page.unlink, missing_ok=True)
            stack.enter_context(_until_interrupted(server.port))
            closes = "; Ctrl-C closes it here, the server goes on"
        _announce(server.url, page=opening.NOTEBOOK, port=server.port, as_json=as_json)
        _sign_in(server.url, server.page, wanted=not no_browser)
        stderr_console().print(f"the address signs in whoever has it{closes}")


def _open_board(
    target: Target, job: str, *, port: int | None, no_browser: bool, as_json: bool
) -> None:
    found = find(target, job)
    with board.opened(target, found, port=port) as served, _until_interrupted(served.port):
        _announce(served.url, page=opening.BOARD, port=served.port, as_json=as_json)
        _sign_in(served.url, served.folder / "open.html", wanted=not no_browser)
        stderr_console().print(f"the run {found.id}; Ctrl-C closes it, never the job")


@contextmanager
def _until_interrupted(port: int) -> Iterator[None]:
    """After the block wait for Ctrl-C; it may come in the block, too, and ends the command well."""
    try:
        yield
        threading.Event().wait()
    except KeyboardInterrupt:
        stderr_console().print(f"closed: {HOST}:{port} no longer answers")


def _sign_in(url: str, page: Path, *, wanted: bool) -> None:
    """Open a browser by a private page: on a command line others could read the token."""
    write_private(page, f'<!doctype html><meta http-equiv="refresh" content="0;url={url}">\n')
    _show(page.as_uri(), wanted=wanted)


def _announce(url: str, *, page: str, port: int, as_json: bool) -> None:
    if as_json:
        print_json({"url": url, "page": page, "port": port})
    else:
        click.echo(url)
    sys.stdout.flush()


def _show(url: str, *, wanted: bool) -> None:
    if wanted and not opening.show(url):
        stderr_console().print("no browser can be opened here: open the address above in yours")
