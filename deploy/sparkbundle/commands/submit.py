"""`sparkbundle submit`."""

from pathlib import Path

import click

from sparkbundle import jobs, jobs_view
from sparkbundle.commands.jobs import chosen
from sparkbundle.commands.logs import show_output
from sparkbundle.commands.options import GpuAmount, Size, inventory_option, json_option, name_option
from sparkbundle.errors import InterruptedRunError
from sparkbundle.gpu_request import GpuRequest
from sparkbundle.jobs import Job, Target
from sparkbundle.jobs_request import JobOptions, JobRequest, read_request
from sparkbundle.output import Steps, next_steps, print_json, print_pairs, stderr_console, warn

_SETTINGS = {"allow_interspersed_args": False}  # what stands after APP belongs to APP
_PATH = click.Path(path_type=Path)


@click.command(context_settings=_SETTINGS)
@click.argument("app")
@click.argument("words", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--wait", is_flag=True, help="Show its output, and end with its exit code.")
@click.option(
    "--py-files", multiple=True, type=_PATH, help="A library for APP.py: .zip, .whl or .py."
)
@click.option("--files", multiple=True, type=_PATH, help="A file for APP.py's executors.")
@click.option("--conf", multiple=True, metavar="K=V", help="A Spark setting for APP.py.")
@click.option(
    "--memory",
    type=Size(),
    show_default="4g",
    help="Most memory of the driver, Java and Python together (with -i).",
)
@click.option(
    "--gpus-per-task",
    type=GpuAmount(),
    help="GPUs for each task that computes on them: 1, 2, or a part, e.g. 0.5: two tasks share "
    "one. The job has its GPUs for itself as long as it runs.",
)
@inventory_option
@name_option()
@json_option
@click.pass_context
def submit(
    context: click.Context,
    *,
    app: str,
    words: tuple[str, ...],
    wait: bool,
    py_files: tuple[Path, ...],
    files: tuple[Path, ...],
    conf: tuple[str, ...],
    memory: int | None,
    gpus_per_task: GpuRequest | None,
    inventory: Path | None,
    name: str,
    as_json: bool,
) -> None:
    """Run a job on a cluster. It goes on when this terminal or connection is gone.

    APP is "sentiment", the packaged job, or a .py file; ARGS are its own. An argument @PATH (or
    --option=@PATH) sends that local file or folder along and becomes its path there; @@x is
    the text @x. What the job writes to a relative path stays in the job's folder.

    \b
    Examples:
      sparkbundle submit sentiment train @corpus model --vectors @table
      sparkbundle submit -i hosts.yml --wait report.py --day 2026-11-25
      sparkbundle submit --gpus-per-task 1 sentiment train @corpus model --vectors @table
      sparkbundle submit --py-files lib.zip --conf spark.cores.max=2 app.py @input.csv
    """
    request = read_request(
        JobOptions(
            app=app,
            words=words,
            py_files=py_files,
            files=files,
            conf=conf,
            memory_mib=memory,
            gpus=gpus_per_task,
        )
    )
    with chosen(context, inventory=inventory, name=name) as target:
        if memory is not None and not target.limits_memory:
            warn("--memory has no effect on this machine: it is for hosts (-i)")
        job = start(target, request)
        if not wait:
            show_started(target, job, as_json=as_json)
            return
        context.exit(watch(target, job, as_json=as_json).exit_code)


def start(target: Target, request: JobRequest) -> Job:
    """Send a job and start it, in a step that is shown; the job as it is then."""
    amount = jobs_view.size(request.value["bytes"])
    sent = f"send {amount} and " if request.shipped else ""
    try:
        with Steps(total=1).step(f"{sent}start the driver") as step:
            job = jobs.submit(target, request)
            step.done(job.id)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; the job may have been started",
            todo=f"sparkbundle jobs{target.options}    shows whether it runs",
        ) from None
    return job


def watch(target: Target, job: Job, *, as_json: bool) -> Job:
    """Show a job's output until it has ended; the job as it is then."""
    stderr_console().print(f"{job.id} runs; Ctrl-C stops watching only", markup=False)
    ended = show_output(target, job, follow=True, to_stderr=as_json)
    stderr_console().print(jobs_view.ending(ended), markup=False)
    if as_json:
        print_json(ended.as_json())
    return ended


def show_started(target: Target, job: Job, *, as_json: bool) -> None:
    """Say where a job that runs now can be seen, and end the command."""
    if as_json:
        print_json(job.as_json())
        return
    print_pairs(job.id, {"state": jobs_view.state(job), "writes to": job.work})
    next_steps(
        f"sparkbundle logs -f{target.options} {job.id}",
        f"sparkbundle cancel{target.options} {job.id}",
        f"sparkbundle pull{target.options} {job.id}:FILE TO    when it has ended",
    )
