"""The command tree. A command's module is imported only when that command runs, so `--help` stays quick."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import click
import typer.main
from click.exceptions import NoSuchCommand
from typer.core import TyperGroup

from hansa.cli.argument_help import keep_help

# Command -> (module, one line of help). A module offers `app`, a `typer.Typer`.
COMMANDS = {
    "up": ("hansa.cli.up", "Run a whole federation on this machine."),
    "down": ("hansa.cli.down", "Stop a federation started with `up --detach`."),
    "status": ("hansa.cli.status", "What runs here, and what needs attention."),
    "simulate": ("hansa.cli.simulate", "The same strategy and agents in one process."),
    "federated": (
        "hansa.cli.federated",
        "Every organisation of a scenario as real processes, with a summary.",
    ),
    "training": ("hansa.cli.training", "Federated, adaptive and scaling, with one summary."),
    "enterprise": ("hansa.cli.enterprise", "Everything the suite has, with a report in Markdown and HTML."),
    "adaptive": (
        "hansa.cli.adaptive",
        "Ten trainings in which something goes wrong, and what is done about it.",
    ),
    "server": ("hansa.cli.server", "The consortium's server."),
    "client": ("hansa.cli.client", "One organisation's node and agent."),
    "jobs": ("hansa.cli.jobs", "Submit, follow, stop, resume and export jobs."),
    "rounds": ("hansa.cli.rounds", "Rounds of a job."),
    "tuner": ("hansa.cli.tuner", "Hyper-parameters: their values, decisions, pins."),
    "sidecar": ("hansa.cli.sidecar", "The process that tunes, watches and recovers."),
    "score": ("hansa.cli.score", "An organisation's own predictions with the trained model."),
    "scaler": ("hansa.cli.scaler", "Replicas of services: what is wanted, why, and what it costs."),
    "scaling": ("hansa.cli.scaling", "Predictive scaling of a day or of a recorded demand, and its cost."),
    "members": ("hansa.cli.members", "Members of the consortium."),
    "budgets": ("hansa.cli.budgets", "Privacy budgets: granted, spent, planned, verified."),
    "outbox": ("hansa.cli.outbox", "Everything that left an organisation, in words."),
    "evidence": ("hansa.cli.evidence", "Proof of a job in a signed archive; a privacy officer's papers."),
    "audit": ("hansa.cli.audit", "What canaries say of an organisation's own privacy."),
    "provision": ("hansa.cli.provision", "Make and renew keys, certificates and a signed charter."),
    "charter": ("hansa.cli.charter", "Sign, verify, show and change a charter."),
    "backup": ("hansa.cli.backup", "One file of a folder, taken while its processes run."),
    "restore": ("hansa.cli.restore", "Put back what backup wrote."),
    "scenario": ("hansa.cli.scenario", "List scenarios or make one from CSV files."),
    "data": ("hansa.cli.data", "The contract, made-up rows, tables checked against it; somebody forgotten."),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = typer.main.get_command(import_module(module).app)
        command.name = cmd_name
        _suggest_once(command)
        keep_help(command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            # Typer leaves it to rich's help to print itself; this one is click's.
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nhansa: interrupted", err=True)
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            # Click suggests from the commands that are imported already: none.
            raise NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click's plain help: rich's would import every command for its panel.
        click.Group.format_help(self, ctx, formatter)


def _suggest_once(command: click.Command) -> None:
    """Click suggests what was meant; Typer would say the same again."""
    if isinstance(command, TyperGroup):
        command.suggest_commands = False
        for inner in command.commands.values():
            _suggest_once(inner)


def build() -> click.Command:
    """The root command."""
    return LazyGroup(
        name="hansa",
        help="Organisations train one model together and none shows its data.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and exit.",
            )
        ],
    )


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"hansa {version('hansa')}")
        ctx.exit()
