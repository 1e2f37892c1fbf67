"""The words of the command line. Bad usage is one line on stderr and exit 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from gateway import __version__

PROGRAM = "memory-gateway"
_Command: TypeAlias = "Callable[..., _Parser]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: {message} (see `{self.prog} --help`)", file=sys.stderr)
        sys.exit(2)


def read(argv: Sequence[str]) -> argparse.Namespace:
    """What is asked for; `run` names the function, as `module:function` below `gateway`."""
    return _parser().parse_args(argv)


def commands(parser: argparse.ArgumentParser | None = None, prefix: str = "") -> Iterator[str]:
    """Every command's words, such as `users export`, in the order of `--help`."""
    # argparse tells its commands only so; the docs are held to them.
    for action in (parser or _parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from commands(below, f"{prefix}{word} ")
            return
    yield prefix.strip()


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="An OpenAI-compatible gateway that gives any chatbot persistent memory.",
        epilog="Settings: config/gateway.toml below the working directory, or --config PATH, or"
        " GATEWAY_CONFIG; the environment (GATEWAY_<SECTION>__<KEY>) wins. Begin with `doctor`."
        " Exit codes: 0 done, 1 not done, 2 bad usage or settings.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    # Before the command and after it: what stands after it must not undo what stands before.
    common = _Parser(add_help=False)
    for place in (parser, common):
        place.add_argument(
            "--config", metavar="PATH", type=Path, default=argparse.SUPPRESS, help="settings file"
        )
        place.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
        )
    parser.set_defaults(config=None, json=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        words: str, run: str, help: str, below: argparse._SubParsersAction[_Parser] | None = None
    ) -> _Parser:
        added = (below or commands).add_parser(
            words, help=help, description=help, parents=[common], allow_abbrev=False
        )
        added.set_defaults(run=run)
        return added

    def group(word: str, help: str) -> argparse._SubParsersAction[_Parser]:
        parent = commands.add_parser(word, help=help, description=help, allow_abbrev=False)
        return parent.add_subparsers(metavar="COMMAND", required=True)

    serve = command("serve", "cli.serving:serve", "run the gateway")
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=_port, help="port to listen on; 0 takes a free one")
    serve.add_argument("--workers", type=_count, metavar="N", help="processes (server mode)")
    serve.add_argument("--no-worker", action="store_true", help="do not distil in here")
    serve.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)

    worker = command("worker", "cli.serving:worker", "run a worker process (server mode)")
    worker.add_argument("--concurrency", type=_count, metavar="N", help="users at a time")
    worker.add_argument("--host", help="address of --port")
    worker.add_argument(
        "--port", type=_port, help="answer /healthz, /readyz and /metrics here; else on none"
    )

    command("demo", "lab.demo:main", "two sessions of a scripted chatbot; needs no key")
    command("doctor", "cli.doctor:main", "check settings and every outside part")
    _users(group("users", "one user's memories: out, in, gone"), command)
    _queue(group("queue", "pending, leased and dead-lettered work"), command)
    _keys(group("keys", "gateway API keys"), command)
    command("reembed", "cli.upkeep:reembed", "change the embedder over, while serving")
    backup = command("backup", "cli.upkeep:backup", "write a backup, while serving")
    backup.add_argument("directory", type=Path, metavar="DIR", help="made; must not exist")
    restore = command("restore", "cli.upkeep:restore", "put a backup in place of what is there")
    restore.add_argument("directory", type=Path, metavar="DIR", help="as `backup` wrote it")
    restore.add_argument(
        "--erasures",
        type=Path,
        metavar="FILE",
        help="erasures made since, as `users erasures` writes them, where the data is lost",
    )
    restore.add_argument("--yes", "-y", action="store_true", help="do not ask on a terminal")
    _audit(group("audit", "who did what to whose memory"), command)

    evaluate = command("eval", "lab.evaluate:main", "retrieval figures of a data set, as JSON")
    evaluate.add_argument("file", type=Path, metavar="FILE", help="see docs/formats.md")
    evaluate.add_argument(
        "--format", choices=["locomo", "jsonl"], default="jsonl", help="default: jsonl"
    )
    evaluate.add_argument("--kinds", default="turn,fact", help="what may be found: turn,fact")
    evaluate.add_argument(
        "--placement", choices=["system", "split", "tail"], help="else memory.placement"
    )

    replay = command(
        "replay", "lab.replay_command:main", "re-run recorded recalls under these settings"
    )
    replay.add_argument("file", type=Path, metavar="FILE", help="as `users recordings` writes")
    replay.add_argument(
        "--distil", action="store_true", help="draw facts from the recorded exchanges again, too"
    )
    replay.add_argument(
        "--prompt", type=Path, metavar="FILE", help="distil under this prompt of extraction"
    )
    return parser


def _users(users: argparse._SubParsersAction[_Parser], command: _Command) -> None:
    listed = command("list", "cli.operating:list_users", "users known", users)
    listed.add_argument("--app", type=_some, help="of this app alone")
    export = command("export", "cli.operating:export_user", "write everything remembered", users)
    taken = command("import", "cli.operating:import_users", "take exported memories back", users)
    erase = command("erase", "cli.operating:erase_user", "erase a user for good", users)
    command("erasures", "cli.upkeep:erasures", "erasures, as `restore` takes them", users)
    for one in (export, erase):
        one.add_argument("user", type=_some, metavar="USER")
        one.add_argument("--app", type=_some, default="default", help='default: "default"')
    export.add_argument("--output", "-o", type=Path, metavar="FILE", help="instead of stdout")
    recalls = command(
        "recordings", "cli.operating:export_recordings", "recorded recalls, for `replay`", users
    )
    recalls.add_argument("user", type=_some, metavar="USER")
    recalls.add_argument("--app", type=_some, default="default", help='default: "default"')
    recalls.add_argument("--output", "-o", type=Path, metavar="FILE", help="instead of stdout")
    erase.add_argument("--yes", "-y", action="store_true", help="do not ask on a terminal")
    taken.add_argument("file", metavar="FILE", help='exported lines; "-" is stdin')
    taken.add_argument("--app", type=_some, help="into this app, whatever the lines say")
    taken.add_argument("--user", type=_some, help="for this user, whatever the lines say")


def _queue(queue: argparse._SubParsersAction[_Parser], command: _Command) -> None:
    command("status", "cli.operating:queue_status", "how much waits, and how long", queue)
    command("dead", "cli.operating:queue_dead", "what could not be distilled", queue)
    retry = command("retry", "cli.operating:queue_retry", "try dead letters again", queue)
    retry.add_argument("id", nargs="?", type=_some, metavar="ID", help="one; all without it")


def _keys(keys: argparse._SubParsersAction[_Parser], command: _Command) -> None:
    create = command("create", "cli.operating:create_key", "make a key; it is shown once", keys)
    create.add_argument(
        "--app", type=_some, default="default", help='the app that it fixes ("default")'
    )
    create.add_argument("--label", type=_text, default="", help="what it is for")
    create.add_argument(
        "--requests-per-minute", type=_count, metavar="N", help="more are 429; no limit without it"
    )
    create.add_argument(
        "--tokens-per-minute",
        type=_count,
        metavar="N",
        help="as the upstream counts them; the same",
    )
    command("list", "cli.operating:list_keys", "keys, without their secrets", keys)
    revoke = command("revoke", "cli.operating:revoke_key", "refuse a key from now on", keys)
    revoke.add_argument("id", type=_some, metavar="ID", help="as `keys list` shows it")


def _audit(audit: argparse._SubParsersAction[_Parser], command: _Command) -> None:
    show = command("show", "cli.operating:show_audit", "the latest entries, newest first", audit)
    show.add_argument("--app", type=_some, help="of this app alone")
    show.add_argument("--user", type=_some, help="about this user alone")
    show.add_argument("--limit", type=_count, default=100, metavar="N", help="default: 100")


def _text(text: str) -> str:
    """Names are UTF-8, also where the locale would read their bytes in another way."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{text!r} given; text in UTF-8 is needed") from None


def _some(text: str) -> str:
    """A script's variable that is empty must not come to mean everything, or another path."""
    text = _text(text)
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} given; what is meant must be named")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} given; a whole number from 1 is needed")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} given; a port from 0 to 65535 is needed")
    return int(text)
