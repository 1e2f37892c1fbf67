"""Settings: one documented line each, sources in their order, and refusals that help."""

from __future__ import annotations

import os
import re
import tomllib
import traceback
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway import config
from gateway.config import Settings, allowed, every_setting, load
from gateway.core.errors import SettingsError

FILE = config.shipped("gateway.toml")
SETTINGS = dict(every_setting())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `config/gateway.toml` below the working directory, unless a test puts one there."""
    monkeypatch.chdir(tmp_path)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return path


def _refused(environ: dict[str, str] | None = None, **overrides: Any) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(environ=environ or {}, overrides=overrides)
    return caught.value


# --- the file that documents them ------------------------------------------------------------


def _documented() -> dict[str, tuple[str, str, bool]]:
    """Each setting of the file: the line before it, its value as written, whether "absent"."""
    found: dict[str, tuple[str, str, bool]] = {}
    section, before = "", ""
    for line in FILE.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = f"{header[1]}."
        elif setting := re.fullmatch(r"#(\w+) = (.*?)(  # absent by default)?", line):
            found[section + setting[1]] = (before, setting[2], bool(setting[3]))
        before = line
    return found


def test_each_setting_stands_in_the_file_and_each_of_the_file_exists() -> None:
    assert set(_documented()) == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_a_documenting_line_and_its_default(name: str) -> None:
    line, value, absent = _documented()[name]
    field = SETTINGS[name]
    assert re.fullmatch(r"# [A-Z\"].*\.", line), f"{name} has no line that says what it is"
    assert absent == (field.default is None)
    if not absent:
        written = tomllib.loads(f"x = {value}")["x"]
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert written == (str(default) if isinstance(default, Path) else default)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_choice_is_documented_with_every_one_of_its_values(name: str) -> None:
    def choices(kind: Any) -> list[str]:
        own = list(get_args(kind)) if get_origin(kind) is not tuple else []
        inner = [c for part in get_args(kind) if get_origin(part) for c in choices(part)]
        return [c for c in own if isinstance(c, str)] + inner

    line = _documented()[name][0]
    for choice in choices(SETTINGS[name].annotation):
        assert f'"{choice}"' in line


def test_the_file_as_it_is_shipped_changes_nothing(tmp_path: Path) -> None:
    assert load(FILE, environ={}) == load(environ={})


def test_the_file_with_everything_uncommented_is_read(tmp_path: Path) -> None:
    kept = [line for line in FILE.read_text().splitlines() if "# absent by default" not in line]
    text = re.sub(r"(?m)^#(\w+ = )", r"\1", "\n".join(kept))
    assert load(_file(tmp_path, text), environ={}) == load(environ={})


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_allowed_can_be_said_of_each(name: str) -> None:
    assert re.match(r"(a|true|text|\")", allowed(SETTINGS[name]))


@pytest.mark.parametrize("name", [n for n in SETTINGS if n.endswith("url")])
def test_each_url_has_an_example_of_its_own_that_is_itself_allowed(name: str) -> None:
    example = allowed(SETTINGS[name]).removeprefix("a URL such as ")
    both = {"qdrant.url": "http://qdrant:6333", "redis.url": "redis://redis:6379"}
    assert config.load(environ={}, overrides={**both, name: example})
    other = "https://" if name.startswith("redis.") else "redis://"
    assert not example.startswith(other)


def test_defaults_are_themselves_allowed() -> None:
    for name, field in SETTINGS.items():
        if field.default is not None:
            value = list(field.default) if isinstance(field.default, tuple) else field.default
            value = str(value) if isinstance(value, Path) else value
            assert load(environ={}, overrides={name: value})


# --- sources ---------------------------------------------------------------------------------


def test_without_file_and_environment_the_defaults_hold() -> None:
    settings = load(environ={})
    assert settings == Settings()
    assert settings.embedded
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)


def test_the_file_wins_over_defaults_and_the_environment_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "[memory]\nmax_tokens = 100\nmax_memories = 7\n")
    settings = load(path, environ={"GATEWAY_MEMORY__MAX_TOKENS": "200"})
    assert (settings.memory.max_tokens, settings.memory.max_memories) == (200, 7)


def test_the_command_line_wins_over_everything(tmp_path: Path) -> None:
    path = _file(tmp_path, "[server]\nport = 1\n")
    settings = load(path, environ={"GATEWAY_SERVER__PORT": "2"}, overrides={"server.port": 3})
    assert settings.server.port == 3


def test_an_override_that_was_not_given_changes_nothing() -> None:
    assert load(environ={}, overrides={"server.port": None}).server.port == 8080


def test_a_file_saved_on_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xef\xbb\xbf[memory]\r\nmax_tokens = 100\r\n")
    assert load(path, environ={}).memory.max_tokens == 100


def test_the_file_is_found_where_gateway_config_says(tmp_path: Path) -> None:
    path = _file(tmp_path, 'data_dir = "elsewhere"')
    assert load(environ={"GATEWAY_CONFIG": str(path)}).data_dir == Path("elsewhere")


def test_the_file_below_the_working_directory_is_read_unless_another_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/gateway.toml").write_text("[server]\nport = 1\n")
    assert load(environ={}).server.port == 1
    assert load(_file(tmp_path, "[server]\nport = 2\n"), environ={}).server.port == 2


def test_a_folder_of_settings_that_may_not_be_entered_is_refused(tmp_path: Path) -> None:
    """Another user's, say. Here a name that is too long for any, for root may enter everything."""
    (tmp_path / "config").symlink_to("x" * 300)
    with pytest.raises(SettingsError, match=r"config/gateway\.toml cannot be read: File name too"):
        load(environ={})


def test_the_data_directory_has_a_variable_of_its_own() -> None:
    assert load(environ={"GATEWAY_DATA_DIR": "/var/lib/gateway"}).data_dir == Path(
        "/var/lib/gateway"
    )


def test_the_environment_is_read_as_what_a_setting_holds() -> None:
    settings = load(
        environ={
            "GATEWAY_MEMORY__TYPES": "profile, preference",
            "GATEWAY_MEMORY__DEADLINE_MS": "75",
            "GATEWAY_PRIVACY__SEAL": "off",
            "GATEWAY_IDENTITY__TRUSTED_PEERS": "10.0.0.0/8,::1",
            "GATEWAY_EMBEDDING__MODEL_PATH": "/models/mini",
            "GATEWAY_EMBEDDING__DIMENSIONS": "384",
            "GATEWAY_UPSTREAM__API_KEY": "12345678",
            "GATEWAY_RETENTION__TURN": "12h",
        }
    )
    assert settings.memory.types == ("profile", "preference")
    assert settings.memory.deadline_ms == 75.0
    assert settings.privacy.seal is False
    assert settings.identity.trusted_peers == ("10.0.0.0/8", "::1")
    assert settings.embedding.model_path == Path("/models/mini")
    assert settings.embedding.dimensions == 384
    assert settings.upstream.api_key == SecretStr("12345678")
    assert config.seconds_of(settings.retention.turn) == 43_200.0


def test_an_empty_variable_is_not_set() -> None:
    environ = {"GATEWAY_QDRANT__URL": "", "GATEWAY_DATA_DIR": "", "GATEWAY_CONFIG": ""}
    assert load(environ=environ) == load(environ={})


def test_openais_own_variables_serve_where_nothing_else_is_set() -> None:
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1/", "OPENAI_API_KEY": "sk-theirs"}
    settings = load(environ=environ)
    assert settings.upstream.base_url == "http://127.0.0.1:1/v1"
    assert settings.upstream.api_key == SecretStr("sk-theirs")
    named = load(environ={**environ, "GATEWAY_UPSTREAM__BASE_URL": "http://127.0.0.1:2/v1"})
    assert named.upstream.base_url == "http://127.0.0.1:2/v1"


def test_variables_for_tests_and_those_that_kubernetes_puts_in_are_not_settings() -> None:
    load(
        environ={
            "GATEWAY_TEST_QDRANT_URL": "x",
            "GATEWAY_PORT": "tcp://10.0.0.1:80",
            "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
            "GATEWAY_SERVICE_HOST": "10.0.0.1",
            "GATEWAY_SERVICE_PORT": "80",
            "GATEWAY_SERVICE_PORT_HTTP": "80",
            # A Service may be called `gateway-redis` as well.
            "GATEWAY_REDIS_SERVICE_HOST": "10.0.0.2",
            "GATEWAY_REDIS_SERVICE_PORT": "6379",
            "GATEWAY_REDIS_SERVICE_PORT_TCP_REDIS": "6379",
            "GATEWAY_REDIS_PORT": "tcp://10.0.0.2:6379",
            "GATEWAY_REDIS_PORT_6379_TCP": "tcp://10.0.0.2:6379",
            "GATEWAY_REDIS_PORT_6379_TCP_PROTO": "tcp",
            "GATEWAY_REDIS_PORT_6379_TCP_PORT": "6379",
            "GATEWAY_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
            "GATEWAY_DNS_PORT": "udp://10.0.0.3:53",
        }
    )


# --- apps --------------------------------------------------------------------------------------


def test_an_app_has_its_own_settings_laid_over_the_general_ones(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
        [memory]
        max_tokens = 100
        [apps.Support.memory]
        placement = "tail"
        [apps.Support.retention]
        turn = "7d"
        """,
    )
    settings = load(path, environ={})
    support = settings.app("Support")
    assert (support.memory.max_tokens, support.memory.placement) == (100, "tail")
    assert support.retention.turn == "7d"
    assert settings.memory.placement == "system"
    assert settings.app("anything else") is settings
    assert settings.own("Support") == {"memory", "retention"}
    assert settings.own("anything else") == frozenset()


def test_an_app_is_set_in_the_environment_by_its_lower_case_name() -> None:
    settings = load(environ={"GATEWAY_APPS__SUPPORT__MEMORY__MAX_TOKENS": "5"})
    assert settings.app("support").memory.max_tokens == 5


def test_an_app_may_have_servers_of_its_own(tmp_path: Path) -> None:
    eu = {"apps.eu.qdrant.url": "http://q:6333", "apps.eu.redis.url": "redis://r:6379"}
    settings = load(environ={}, overrides=eu)
    assert settings.embedded
    assert settings.app("eu").qdrant.url == "http://q:6333"


SERVERS = {"qdrant.url": "http://q:6333", "redis.url": "redis://r:6379"}
EU = {"apps.eu.qdrant.collection": "eu", "apps.eu.redis.url": "redis://eu:6379"}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            {"apps.eu.redis.url": "redis://eu:6379"},
            "apps.eu.qdrant.url (or qdrant.collection): the same as the general qdrant.url",
        ),
        ({"apps.eu.qdrant.collection": "eu"}, "apps.eu.redis.url: the same as the general"),
        ({**EU, "redis.state_url": "redis://s:6379"}, "apps.eu.redis.state_url: the same as the"),
        (
            {**EU, "apps.us.qdrant.collection": "eu", "apps.us.redis.url": "redis://us:6379"},
            "apps.us.qdrant.url (or qdrant.collection): the same as apps.eu.qdrant.url",
        ),
    ],
)
def test_an_app_shares_both_of_its_servers_or_neither(overrides: dict[str, Any], says: str) -> None:
    assert says in _refused(**SERVERS, **overrides).message


def test_apps_may_share_servers_of_their_own() -> None:
    both = EU | {name.replace("eu.", "fr.", 1): value for name, value in EU.items()}
    settings = load(environ={}, overrides=SERVERS | both | {"apps.us.redis.timeout_s": 3})
    assert settings.app("fr").qdrant == settings.app("eu").qdrant


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"apps.eu.qdrant.url": "http://q:6333"}, "apps.eu.redis.url: absent"),
        ({"apps.eu.server.port": 1}, "an app may set its own upstream, identity"),
        ({"apps.eu.memory.max_tokens": -1}, "apps.eu.memory.max_tokens: -1 given"),
        ({"apps.eu.memory.tokens": 1}, "apps.eu.memory.tokens: no such setting"),
        ({"apps.eu.identity.mode": "signed"}, "apps.eu.identity.signing_secret: absent"),
        ({"apps": {"a b": {}}}, "apps.a b: an app's name has"),
        ({"apps": 3}, "apps: a table"),
        ({"apps": {"eu": 3}}, "apps: a table"),
    ],
)
def test_what_an_app_may_not_set_is_refused(overrides: dict[str, Any], says: str) -> None:
    assert says in _refused(**overrides).message


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"server.port": "8080"}, "server.port: '8080' given; allowed is a whole number from 0"),
        ({"server.port": 70_000}, "server.port: 70000 given; allowed is a whole number from 0 to"),
        ({"server.port": 80.5}, "server.port: 80.5 given"),
        ({"privacy.seal": 1}, "privacy.seal: 1 given; allowed is true or false"),
        ({"memory.placement": "top"}, '"system", "split" or "tail"'),
        ({"memory.types": ["profile", "mood"]}, "memory.types.1: 'mood' given; allowed is a list"),
        ({"privacy.deny_types": ["profil"]}, "privacy.deny_types.0: 'profil' given; allowed is a"),
        ({"memory.types": "profile"}, "memory.types: 'profile' given; allowed is a list of"),
        (
            {"memory.floor": float("nan")},
            "memory.floor: nan given; allowed is a number from 0 to 1",
        ),
        ({"retention.turn": "30"}, '"never", or a number of days or hours'),
        ({"retention.turn": 30}, "retention.turn: 30 given"),
        (
            {"upstream.base_url": "api.openai.com"},
            "upstream.base_url: 'api.openai.com' given; allowed is a URL such as https://api.openai",
        ),
        ({"redis.url": "localhost:6379"}, "allowed is a URL such as redis://127.0.0.1:6379"),
        ({"qdrant.url": "localhost:6333"}, "allowed is a URL such as http://127.0.0.1:6333"),
        ({"upstream.base_url": "ftp://host/v1"}, "upstream.base_url: 'ftp://host/v1' given"),
        ({"upstream.base_url": "http://host:99999/v1"}, "http://host:99999/v1' given"),
        ({"upstream.base_url": "http://host:abc/v1"}, "http://host:abc/v1' given"),
        ({"upstream.base_url": "http://[::1/v1"}, "http://[::1/v1' given"),
        ({"upstream.base_url": "http://:80/v1"}, "http://:80/v1' given"),
        ({"upstream.base_url": "http://host/v1 two"}, "http://host/v1 two' given"),
        ({"embedding.base_url": "http://host/v1?version=2"}, "http://host/v1?version=2' given"),
        ({"qdrant.url": "redis://host:6379"}, "qdrant.url: 'redis://host:6379' given"),
        ({"redis.url": "redis://host:99999"}, "redis.url: 'redis://host:99999' given"),
        ({"redis.url": "redis://host/mine"}, "redis.url: 'redis://host/mine' given"),
        ({"redis.url": "redis://host /0"}, "redis.url: 'redis://host /0' given"),
        ({"identity.aliases": ["X User"]}, "identity.aliases.0: 'X User' given; allowed is a list"),
        ({"upstream.api_key": "one\ntwo"}, "upstream.api_key: a secret given; allowed is text of"),
        ({"admin.token": "schlüssel"}, "admin.token: a secret given; allowed is text of one line"),
        ({"qdrant.collection": ".."}, "qdrant.collection: '..' given"),
        ({"upstream.idle_timeout_s": 0}, "a number above 0 up to 86400"),
        ({"identity.trusted_peers": ["all"]}, "addresses or networks such as 10.0.0.0/8"),
        (
            {"qdrant.collection": "a b"},
            "qdrant.collection: 'a b' given; allowed is text of the form",
        ),
        ({"data_dir": ""}, "data_dir: '' given; allowed is a path"),
        ({"embedding.model_path": 3}, "embedding.model_path: 3 given; allowed is a path"),
        (
            {"memory.plcement": "tail"},
            "memory.plcement: no such setting; did you mean memory.placement",
        ),
        ({"memroy.placement": "tail"}, "memroy: no such setting; did you mean memory?"),
        ({"retention.foo": "3d"}, "retention.foo: no such setting; config/gateway.toml lists"),
        (
            {"apps.shop.mode": "shadow"},
            "did you mean apps.shop.identity.mode or apps.shop.memory.mode?",
        ),
        ({"nonsense": 1}, "nonsense: no such setting; config/gateway.toml lists"),
        ({"memory": 3}, "memory: a section [memory] of settings is needed"),
        ({"server.port.number": 3}, "server.port: {'number': 3} given"),
    ],
)
def test_a_refusal_names_the_setting_what_was_given_and_what_is_allowed(
    overrides: dict[str, Any], says: str
) -> None:
    assert says in _refused(**overrides).message


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("GATEWAY_SERVER__PORT", "80x", "server.port: '80x' given; allowed is a whole number"),
        ("GATEWAY_PRIVACY__SEAL", "perhaps", "privacy.seal: 'perhaps' given"),
        ("GATEWAY_UPSTREM__BASE_URL", "http://x", "did you mean GATEWAY_UPSTREAM__BASE_URL?"),
        ("GATEWAY_DATADIR", "x", "did you mean GATEWAY_DATA_DIR?"),
        ("GATEWAY_SOMETHING", "x", "GATEWAY_SOMETHING (environment): no such setting"),
        ("GATEWAY_SERVER", "x", "GATEWAY_SERVER (environment): no such setting"),
        ("GATEWAY_SERVER__PORT__X", "1", "no such setting"),
        ("GATEWAY_APPS__X", "1", "no such setting"),
        ("GATEWAY_PORT", "8080", "did you mean"),
        (
            "GATEWAY_REDIS__STATE_URL",
            "redis://x",
            "redis.state_url: set, while redis.url is absent",
        ),
        (
            "GATEWAY_APPS__HELP__MEMORY__MAXTOKENS",
            "1",
            "did you mean apps.help.memory.max_tokens?",
        ),
        (
            "GATEWAY_APPS__HELP__SERVER__PORT",
            "1",
            "no such setting; an app may set its own upstream",
        ),
    ],
)
def test_a_variable_that_is_wrong_or_misspelt_is_refused(name: str, text: str, says: str) -> None:
    assert says in _refused({name: text}).message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[memory", "is not TOML"),
        ("version = 2", "is of another version; this program reads 1"),
        ("memory = 3", "memory: a section [memory]"),
        ("[memory]\nmax_tokens = 2026-01-01", "memory.max_tokens: '2026-01-01' given"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(says)):
        load(_file(tmp_path, text), environ={})


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    for arguments in (
        {"path": tmp_path / "none.toml", "environ": {}},
        {"environ": {"GATEWAY_CONFIG": str(tmp_path / "none.toml")}},
    ):
        with pytest.raises(SettingsError, match="cannot be read: No such file"):
            load(**arguments)  # type: ignore[arg-type]


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(path, environ={})


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("GATEWAY_DATA_DIR", "data_dir"),
        ("GATEWAY_LOG__LEVEL", r"log\.level"),
        ("GATEWAY_MEMORY__TYPES", r"memory\.types"),
        ("GATEWAY_APPS__SUPPORT__MEMORY__TEMPLATE", r"apps\.support\.memory\.template"),
        ("OPENAI_API_KEY", r"upstream\.api_key"),
    ],
)
def test_bytes_that_are_no_text_are_refused_and_nothing_about_them_is_shown(
    variable: str, named: str
) -> None:
    secret = "x" * 20
    given = secret + os.fsdecode(b"\xff")
    with pytest.raises(SettingsError, match=f"^{named}: bytes given") as refused:
        load(environ={"GATEWAY_ADMIN__TOKEN": secret, variable: given})
    assert secret not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "overrides",
    [
        {"upstream.api_key": ["sk-verysecret1"]},
        {"upstream": "sk-verysecret1"},
        {"upstream.base_url": "sk-verysecret1"},
        {"qdrant.url": "user:verysecret1@host"},
        {"redis.url": "http//user:verysecret1@host"},
        {"admin.token": {"verysecret1": 1}},
    ],
)
def test_a_secret_is_not_printed_not_even_from_a_wrong_place(overrides: dict[str, Any]) -> None:
    assert "verysecret1" not in _refused(**overrides).message


def test_settings_do_not_show_their_secrets_when_printed() -> None:
    settings = load(environ={"GATEWAY_UPSTREAM__API_KEY": "sk-verysecret1"})
    assert "verysecret1" not in repr(settings)
    assert "verysecret1" not in str(settings.model_dump_json())


@pytest.mark.parametrize(
    "name",
    ["upstream.api_key", "admin.token", "extraction.model", "embedding.model_path"],
)
def test_what_the_file_leaves_blank_is_absent(tmp_path: Path, name: str) -> None:
    section, _, key = name.partition(".")
    for blank in ("", "  "):
        settings = load(_file(tmp_path, f'[{section}]\n{key} = "{blank}"'), environ={})
        assert getattr(getattr(settings, section), key) is None


def test_a_blank_secret_signs_nothing() -> None:
    overrides = {"identity.mode": "signed", "identity.signing_secret": " "}
    assert "identity.signing_secret: absent" in _refused(**overrides).message


def test_the_line_end_of_a_file_is_no_part_of_a_key() -> None:
    key = load(environ={"GATEWAY_UPSTREAM__API_KEY": "sk-of-a-file\n"}).upstream.api_key
    assert key is not None
    assert key.get_secret_value() == "sk-of-a-file"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p%40ss@host:6380/2",
        "rediss://host?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
        "redis+cluster://one:6379,two:6379",
        "redis+sentinel://one:26379,two:26379/house/0?sentinel_password=x+y",
    ],
)
def test_each_kind_of_redis_url_is_allowed(url: str) -> None:
    overrides = {"qdrant.url": "http://q:6333", "redis.url": url}
    assert load(environ={}, overrides=overrides).redis.url == url


@pytest.mark.parametrize("given", ["qdrant", "redis"])
def test_one_server_without_the_other_is_refused(given: str) -> None:
    error = _refused(**{f"{given}.url": "http://127.0.0.1:6333"})
    missing = {"qdrant": "redis", "redis": "qdrant"}[given]
    assert error.param == f"{missing}.url"
    assert "both (servers) or neither (embedded)" in error.message


def test_header_mode_away_from_loopback_needs_trusted_peers() -> None:
    assert _refused(**{"server.host": "0.0.0.0"}).param == "identity.trusted_peers"
    peers = {"server.host": "0.0.0.0", "identity.trusted_peers": ["10.0.0.0/8"]}
    assert load(environ={}, overrides=peers).server.host == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_header_mode_on_loopback_needs_nothing(host: str) -> None:
    assert load(environ={}, overrides={"server.host": host}).server.host == host


def test_a_mode_that_checks_the_caller_may_listen_anywhere() -> None:
    overrides = {"server.host": "0.0.0.0", "identity.mode": "key"}
    assert load(environ={}, overrides=overrides)


@pytest.mark.parametrize(("mode", "needs"), [("signed", "signing_secret"), ("jwt", "jwks_url")])
def test_a_mode_without_what_it_checks_with_is_refused(mode: str, needs: str) -> None:
    assert _refused(**{"identity.mode": mode}).param == f"identity.{needs}"


def test_several_processes_over_embedded_stores_are_refused() -> None:
    assert _refused(**{"server.workers": 2}).param == "server.workers"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(environ={}).server.port = 1  # type: ignore[misc]


def test_fields_are_what_is_enumerated() -> None:
    assert all(isinstance(field, FieldInfo) for field in SETTINGS.values())
    assert "memory.placement" in SETTINGS
    assert "apps" not in SETTINGS
