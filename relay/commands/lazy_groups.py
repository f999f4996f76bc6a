"""Groups of subcommands, imported when they are asked for: `relay chat` needs no database."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from typer.core import TyperGroup
from typer.main import get_group

_ADMINISTRATION: Final = ("orgs", "teams", "keys", "budgets", "admins")
_PLACES: Final = {
    "audit": ("relay.commands.audit", "app"),
    **{name: ("relay.commands.administer", f"{name}_app") for name in _ADMINISTRATION},
    "experiments": ("relay.commands.experiments", "app"),
    "import": ("relay.commands.import_", "app"),
    "store": ("relay.commands.store", "app"),
    "usage": ("relay.commands.usage", "app"),
}
"""Name -> module, and the `Typer` in it."""


class LazyGroups(TyperGroup):
    """The commands that are there, and behind them the groups that are not yet."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In this order they are shown."""
        return [name for name in super().list_commands(ctx) if name not in _PLACES] + [*_PLACES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command or group by its name; a name that is none has all of them looked at, so that
        the one that may be meant is told."""
        if cmd_name not in self.commands:
            for name in [cmd_name] if cmd_name in _PLACES else _PLACES:
                module, variable = _PLACES[name]
                group = get_group(getattr(import_module(module), variable))
                group.name = name
                self.commands[name] = group
        return super().get_command(ctx, cmd_name)
