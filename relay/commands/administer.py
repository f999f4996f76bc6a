"""`relay orgs|teams|keys|budgets|admins`: administration by whoever has the machine.

They work on the store of `-c relay.yaml`, not on a running relay: workers and machines see what was
changed within a second. The actor in the audit log is `cli:USER`. A secret is printed once, alone
on a line of standard output with `--quiet`, so that `KEY=$(relay keys create ... --quiet)` works.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from relay.administering import desk_of
from relay.administration import administrators, budgets, keys, teams
from relay.administration.desk import Desk
from relay.administration.faults import Conflict, Fault, Invalid
from relay.administration.roles import OPERATOR, ROLES, Actor
from relay.commands.audit_view import printable
from relay.commands.limit_options import with_limits
from relay.commands.moments import length_s
from relay.commands.own_acts import user
from relay.commands.store_options import AsJson, ConfigPath
from relay.commands.whole_table import print_whole
from relay.config import ConfigError, StoreConfig, load
from relay.governance.money import dollars, micro_from_dollars
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, make_ready
from relay.store.revisions import SchemaError
from relay.store.sqlite_file import DamagedFile

orgs_app = typer.Typer(no_args_is_help=True, help="organisations")
teams_app = typer.Typer(no_args_is_help=True, help="teams of organisations")
keys_app = typer.Typer(no_args_is_help=True, help="virtual keys of teams")
budgets_app = typer.Typer(no_args_is_help=True, help="budgets of keys, teams, organisations, tags")
admins_app = typer.Typer(no_args_is_help=True, help="administrators of the admin listener")
APPS = {
    "orgs": orgs_app,
    "teams": teams_app,
    "keys": keys_app,
    "budgets": budgets_app,
    "admins": admins_app,
}
_out = Console()

Quiet = Annotated[bool, typer.Option("--quiet", help="print nothing but the secret")]
Name = Annotated[str, typer.Argument(help="its id or name")]
Limits = dict[str, int] | None
"""See `with_limits`."""
Overlap = Annotated[str, typer.Option(help="how long the old secret is good; 0s: no more")]
Expires = Annotated[str | None, typer.Option(help="after so long, 30d or 12h; never without it")]

_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
"""SQLAlchemy's names of columns are a kind of text that orjson does not take for one."""
DEFAULT_ORGANISATION = "default"


@contextlib.contextmanager
def _office(path: Path) -> Iterator[tuple[Desk, Actor]]:
    """The desk and whoever sits at it; what is in the way is told as one line."""
    try:
        config = load(path)
        store = config.store or StoreConfig()
        url = store.url.get_secret_value()
        engine = engine_for(url, durability=store.durability)
        try:
            desk = desk_of(config, engine)
            make_ready(url, store.migrate)
            yield desk, Actor(f"cli:{user()}", OPERATOR)
        finally:
            engine.dispose()
    except (ConfigError, Fault, StoreUnavailable, SchemaError, DamagedFile) as error:
        typer.echo(f"relay: {error}", err=True)
        raise typer.Exit(1) from None


def _expiry(desk: Desk, after: str | None) -> int | None:
    if after is None:
        return None
    try:
        return desk.now_us() + round(length_s(after) * 1e6)
    except ValueError as error:
        raise Invalid(f"--expires: {error}", "expires") from None


def _overlap_s(overlap: str) -> int:
    try:
        return round(length_s(overlap))
    except ValueError as error:
        raise Invalid(f"--overlap: {error}", "overlap") from None


def _micro(usd: str) -> int:
    try:
        return micro_from_dollars(usd)
    except ValueError as error:
        raise Invalid(f"--usd: {error}", "usd") from None


# --- what is shown --------------------------------------------------------------------------


def _moment(at_us: object) -> str:
    if not isinstance(at_us, int):
        return ""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps([_plain(row) for row in rows], option=_PRETTY).decode())
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.removesuffix("_us").removesuffix("_micro"))
    for row in rows:
        cells = (_cell(column, row.get(column)) for column in columns)
        table.add_row(*(escape(printable(cell)) for cell in cells))
    print_whole(_out, table)


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if column.endswith("_at_us"):
        return _moment(value)
    if column.endswith("_micro") and isinstance(value, int):
        return f"${dollars(value)}"
    return str(value)


_JSON = ("scopes", "limits", "tags", "alert_percents")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Without what is of the database alone; JSON kept as text is JSON again."""
    shown = {name: value for name, value in row.items() if name not in ("changed", "mac")}
    for name in _JSON:
        if isinstance(shown.get(name), str):
            shown[name] = json.loads(shown[name])
    return shown


def _made(made: keys.MadeKey, what: str, *, quiet: bool, as_json: bool) -> None:
    """A secret, shown for the only time."""
    if quiet:
        typer.echo(made.secret)
    elif as_json:
        shown = {**_plain(made.row), "secret": made.secret}
        typer.echo(orjson.dumps(shown, option=_PRETTY).decode())
    else:
        typer.echo(f"{what} {made.row['id']}; its secret, shown this once:", err=True)
        typer.echo(made.secret)


# --- organisations --------------------------------------------------------------------------


@orgs_app.command("create")
@with_limits
def create_organisation(
    config: ConfigPath,
    name: Annotated[str, typer.Argument()],
    limits: Limits = None,
) -> None:
    """Make an organisation; its id is printed."""
    with _office(config) as (desk, actor):
        typer.echo(teams.create_organisation(desk, actor, name, limits)["id"])


@orgs_app.command("list")
def list_organisations(config: ConfigPath, as_json: AsJson = False) -> None:
    """Show all of them."""
    with _office(config) as (desk, actor):
        rows = teams.organisations(desk, actor)
        columns = ("id", "name", "limits", "created_at_us", "archived_at_us")
        _show(rows, columns, as_json=as_json)


@orgs_app.command("limit")
@with_limits
def limit_organisation(config: ConfigPath, name: Name, limits: Limits = None) -> None:
    """Set its limits; those that are not named are lifted."""
    with _office(config) as (desk, actor):
        teams.change_organisation(desk, actor, name, limits=limits)


@orgs_app.command("archive")
def archive_organisation(config: ConfigPath, name: Name) -> None:
    """Its keys are good no more; what they spent stays."""
    with _office(config) as (desk, actor):
        teams.archive_organisation(desk, actor, name)


# --- teams ----------------------------------------------------------------------------------


@teams_app.command("create")
@with_limits
def create_team(
    config: ConfigPath,
    name: Annotated[str, typer.Argument()],
    org: Annotated[str, typer.Option(help="id or name of its organisation")],
    limits: Limits = None,
) -> None:
    """Make a team; its id is printed."""
    with _office(config) as (desk, actor):
        typer.echo(teams.create_team(desk, actor, org, name, limits)["id"])


@teams_app.command("list")
def list_teams(
    config: ConfigPath,
    org: Annotated[str, typer.Option(help="of this organisation alone")] = "",
    as_json: AsJson = False,
) -> None:
    """Show them."""
    with _office(config) as (desk, actor):
        rows = teams.teams(desk, actor, org)
        columns = ("id", "name", "organisation_id", "limits", "created_at_us", "archived_at_us")
        _show(rows, columns, as_json=as_json)


@teams_app.command("limit")
@with_limits
def limit_team(
    config: ConfigPath,
    name: Name,
    limits: Limits = None,
) -> None:
    """Set its limits; those that are not named are lifted."""
    with _office(config) as (desk, actor):
        teams.change_team(desk, actor, name, limits=limits)


@teams_app.command("archive")
def archive_team(config: ConfigPath, name: Name) -> None:
    """Its keys are good no more; what they spent stays."""
    with _office(config) as (desk, actor):
        teams.archive_team(desk, actor, name)


# --- keys -----------------------------------------------------------------------------------

Models = Annotated[
    list[str] | None, typer.Option("--model", help="pattern of a model it may use; repeatable")
]
ModelTags = Annotated[
    list[str] | None, typer.Option("--model-tag", help="aliases with this tag; repeatable")
]
Zones = Annotated[
    list[str] | None,
    typer.Option("--zone", help="data zone that its prompts may go to; repeatable, none: anywhere"),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="put on each of its requests; repeatable")
]


@keys_app.command("create")
@with_limits
def create_key(
    config: ConfigPath,
    team: Annotated[str, typer.Option(help="id or name of its team")],
    name: Annotated[str | None, typer.Option(help="for people; else one is made up")] = None,
    model: Models = None,
    model_tag: ModelTags = None,
    tag: Tags = None,
    zone: Zones = None,
    hedge: Annotated[bool, typer.Option(help="may ask several providers at once")] = True,
    passthrough: Annotated[bool, typer.Option(help="may use what is handed through")] = False,
    max_usd: Annotated[str | None, typer.Option(help="one request may cost at most")] = None,
    limits: Limits = None,
    expires: Expires = None,
    create: Annotated[
        bool,
        typer.Option(
            "--create",
            help=f"make the team, if there is none, in organisation {DEFAULT_ORGANISATION!r}",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is shown this once."""
    scopes: dict[str, Any] = {"models": model or [], "model_tags": model_tag or []}
    scopes |= {"may_hedge": hedge, "passthrough": passthrough}
    scopes["zones"] = zone or None
    with _office(config) as (desk, actor):
        if max_usd is not None:
            scopes["max_cost_micro"] = _micro(max_usd)
        if create:
            _ensure_team(desk, actor, team)
        made = keys.create_key(
            desk,
            actor,
            team,
            name=f"key-{secrets.token_hex(3)}" if name is None else name,
            scopes=scopes,
            tags=tag or [],
            limits=limits,
            expires_at_us=_expiry(desk, expires),
        )
        _made(made, "made key", quiet=quiet, as_json=as_json)


def _ensure_team(desk: Desk, actor: Actor, team: str) -> None:
    if any(team in (row["id"], row["name"]) for row in teams.teams(desk, actor)):
        return
    with contextlib.suppress(Conflict):
        teams.create_organisation(desk, actor, DEFAULT_ORGANISATION)
    teams.create_team(desk, actor, DEFAULT_ORGANISATION, team)


@keys_app.command("list")
def list_keys(
    config: ConfigPath,
    team: Annotated[str, typer.Option(help="of this team alone")] = "",
    as_json: AsJson = False,
) -> None:
    """Show them, without secrets."""
    with _office(config) as (desk, actor):
        columns = ("id", "name", "team_id", "scopes", "limits", "expires_at_us", "revoked_at_us")
        _show(keys.keys(desk, actor, team), columns, as_json=as_json)


@keys_app.command("show")
def show_key(config: ConfigPath, name: Name) -> None:
    """One key with its credentials and certificates, as JSON."""
    with _office(config) as (desk, actor):
        row = _plain(keys.show_key(desk, actor, name))
        typer.echo(orjson.dumps(row, option=_PRETTY).decode())


@keys_app.command("change")
def change_key(
    config: ConfigPath,
    name: Name,
    values: Annotated[str, typer.Argument(help='JSON, as {"limits": {"rpm": 60}}')],
) -> None:
    """Change its name, scopes, tags, limits or expiry; what is not named stays."""
    with _office(config) as (desk, actor):
        try:
            given = orjson.loads(values)
        except orjson.JSONDecodeError:
            raise Invalid("the change is no JSON") from None
        if not isinstance(given, dict):
            raise Invalid("the change must be a JSON object")
        keys.change_key(desk, actor, name, **given)


@keys_app.command("rotate")
def rotate_key(
    config: ConfigPath,
    name: Name,
    overlap: Overlap = "24h",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Give it another secret, which is shown this once."""
    with _office(config) as (desk, actor):
        made = keys.rotate_key(desk, actor, name, overlap_s=_overlap_s(overlap))
        _made(made, "rotated key", quiet=quiet, as_json=as_json)


@keys_app.command("revoke")
def revoke_key(config: ConfigPath, name: Name) -> None:
    """It is good no more, everywhere within a second. Cannot be undone."""
    with _office(config) as (desk, actor):
        keys.revoke_key(desk, actor, name)


@keys_app.command("bind")
def bind_certificate(
    config: ConfigPath,
    name: Name,
    subject: Annotated[str, typer.Argument(help="DNS:agent.example, URI:spiffe://...")],
) -> None:
    """Let client certificates with this name stand for the key."""
    with _office(config) as (desk, actor):
        keys.bind_certificate(desk, actor, name, subject)


@keys_app.command("unbind")
def unbind_certificate(
    config: ConfigPath, name: Name, subject: Annotated[str, typer.Argument()]
) -> None:
    """They stand for it no more."""
    with _office(config) as (desk, actor):
        keys.unbind_certificate(desk, actor, name, subject)


# --- budgets --------------------------------------------------------------------------------

Usd = Annotated[str, typer.Option("--usd", help="dollars, as 50 or 0.25")]
Alert = Annotated[list[int] | None, typer.Option(help="percent that are told of; repeatable")]


@budgets_app.command("create")
def create_budget(
    config: ConfigPath,
    usd: Usd,
    org: Annotated[str, typer.Option(help="of this organisation; of a tag: whose tag")] = "",
    team: Annotated[str, typer.Option(help="of this team")] = "",
    key: Annotated[str, typer.Option(help="of this key")] = "",
    tag: Annotated[str, typer.Option(help="of requests with this tag")] = "",
    period: Annotated[str, typer.Option(help="day, month, total")] = "month",
    time_zone: Annotated[str, typer.Option(help="where days and months begin")] = "UTC",
    soft: Annotated[bool, typer.Option("--soft", help="only tell, stop nothing")] = False,
    alert: Alert = None,
) -> None:
    """Make a budget; its id is printed."""
    with _office(config) as (desk, actor):
        scopes = {"tag": tag, "key": key, "team": team, "organisation": "" if tag else org}
        named = [(scope, name) for scope, name in scopes.items() if name]
        if len(named) != 1:
            raise Invalid("name one of --org, --team, --key, --tag")
        scope, name = named[0]
        row = budgets.create_budget(
            desk,
            actor,
            scope,
            name,
            period=period,
            time_zone=time_zone,
            organisation=org if tag else "",
            limit_micro=_micro(usd),
            is_hard=not soft,
            alert_percents=alert or [80, 100],
        )
        typer.echo(row["id"])


@budgets_app.command("list")
def list_budgets(config: ConfigPath, as_json: AsJson = False) -> None:
    """Show them, with what is spent and put aside of their present period."""
    columns = (
        "id",
        "scope",
        "scope_id",
        "period",
        "time_zone",
        "limit_micro",
        "settled_micro",
        "reserved_micro",
        "is_hard",
        "archived_at_us",
    )
    with _office(config) as (desk, actor):
        _show(budgets.budgets(desk, actor), columns, as_json=as_json)


@budgets_app.command("set")
def set_budget(
    config: ConfigPath,
    budget_id: Annotated[str, typer.Argument()],
    usd: Annotated[str | None, typer.Option("--usd", help="dollars, as 50 or 0.25")] = None,
    is_hard: Annotated[
        bool | None, typer.Option("--hard/--soft", help="stop what would go over, or only tell")
    ] = None,
    alert: Alert = None,
    no_alerts: Annotated[bool, typer.Option("--no-alerts", help="tell of none any more")] = False,
) -> None:
    """Change its amount, whether it stops anything, or what is told of; the rest stays."""
    with _office(config) as (desk, actor):
        changes: dict[str, Any] = {}
        if usd is not None:
            changes["limit_micro"] = _micro(usd)
        if is_hard is not None:
            changes["is_hard"] = is_hard
        if alert or no_alerts:
            changes["alert_percents"] = [] if no_alerts else alert
        if not changes:
            raise Invalid("name what to change: --usd, --hard, --soft, --alert, --no-alerts")
        budgets.change_budget(desk, actor, budget_id, **changes)


@budgets_app.command("archive")
def archive_budget(config: ConfigPath, budget_id: Annotated[str, typer.Argument()]) -> None:
    """It counts no more."""
    with _office(config) as (desk, actor):
        budgets.archive_budget(desk, actor, budget_id)


# --- administrators -------------------------------------------------------------------------


@admins_app.command("create")
def create_administrator(
    config: ConfigPath,
    name: Annotated[str, typer.Argument()],
    role: Annotated[str, typer.Option(help=", ".join(ROLES))],
    org: Annotated[str, typer.Option(help="bound to this organisation")] = "",
    team: Annotated[str, typer.Option(help="bound to this team")] = "",
    expires: Expires = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make an administrator. The token is shown this once."""
    with _office(config) as (desk, actor):
        made = administrators.create_administrator(
            desk,
            actor,
            name,
            role,
            organisation=org,
            team=team,
            expires_at_us=_expiry(desk, expires),
        )
        _made(made, "made administrator", quiet=quiet, as_json=as_json)


@admins_app.command("list")
def list_administrators(config: ConfigPath, as_json: AsJson = False) -> None:
    """Show them, without secrets."""
    columns = ("id", "name", "role", "organisation_id", "team_id", "expires_at_us", "revoked_at_us")
    with _office(config) as (desk, actor):
        _show(administrators.administrators(desk, actor), columns, as_json=as_json)


@admins_app.command("rotate")
def rotate_administrator(
    config: ConfigPath,
    name: Name,
    overlap: Overlap = "24h",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make another token with the same rights and the same end, which is shown this once."""
    with _office(config) as (desk, actor):
        made = administrators.rotate_administrator(desk, actor, name, overlap_s=_overlap_s(overlap))
        _made(made, "rotated administrator", quiet=quiet, as_json=as_json)


@admins_app.command("revoke")
def revoke_administrator(config: ConfigPath, name: Name) -> None:
    """The token is good no more, at once."""
    with _office(config) as (desk, actor):
        administrators.revoke_administrator(desk, actor, name)
