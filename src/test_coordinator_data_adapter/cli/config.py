"""`config`: the settings as the library reads them."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from test_coordinator_data_adapter.cli.program import add_command, new_group
from test_coordinator_data_adapter.cli.screen import plain, say, show
from test_coordinator_data_adapter.config import (
    AdapterConfig,
    closest_variable,
    sources_of_settings,
    unknown_variables,
)

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the group `config`."""
    group = new_group("Show the settings.")
    group.callback()(_config)
    add_command(group, "show", _show)
    app.add_typer(group, name="config")


def _config() -> None:
    # Without it, a group of one command is that command.
    pass


def _show(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Show every setting: its value, passwords masked, and where it comes from.

    A value comes from an environment variable, from the file .env, from other settings
    (derived), or is the default. Environment variables that have the prefix of this program
    and are no setting are listed too.

    Exit code 0 when they are shown, 2 when a setting is wrong.
    """
    config = AdapterConfig()
    values, sources = config.model_dump(mode="json"), sources_of_settings()
    unknown = {name: closest_variable(name) for name in unknown_variables()}
    if as_json:
        answer = {
            "settings": {
                name: {"value": value, "source": sources[name]} for name, value in values.items()
            },
            "unknown": [
                {"variable": name, "did_you_mean": closest} for name, closest in unknown.items()
            ],
        }
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
        return
    show(_lines(values, dict(sources)))
    for name, closest in unknown.items():
        hint = f"; did you mean {closest}?" if closest else ""
        say(f"{plain(name)} is set, but there is no such setting{hint}")


def _lines(values: dict[str, object], sources: dict[str, str]) -> str:
    """Name, source and value of each setting; the value is last because it may be long."""
    width = max(map(len, values))
    rows = [("Setting", "Source", "Value")]
    rows += [(name, sources[name], _shown(value)) for name, value in values.items()]
    return "\n".join(f"{name:<{width}}  {source:<11}  {value}" for name, source, value in rows)


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return plain(str(value))
