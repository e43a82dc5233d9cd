"""The gateway's configuration: file, environment, flags; errors that name the setting."""

from __future__ import annotations

import pytest

from isthmus.cloud import backends
from isthmus.cloud.backends.base import BackendConfig
from isthmus.cloud.config import CloudConfig
from isthmus.core.errors import ConfigError

FILE = """
listen = "127.0.0.1:6000"
max_running_requests = 5
[backend]
kind = "openai"
url = "http://127.0.0.1:8000/v1"
model = "m"
[[prices]]
input_usd_per_mtok = "0.15"
"""

TOKENS = "[auth]\njwks_file = 'j'\nissuer = 'i'\naudience = 'a'\n"


@pytest.fixture(autouse=True)
def _nothing_preset(monkeypatch):
    # conftest.py sets it for programs that tests start.
    monkeypatch.delenv("ISTHMUS_CLOUD_LEDGER__KIND", raising=False)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cloud.toml"
    path.write_text(FILE)
    return path


def test_flags_go_over_the_environment_and_that_over_the_file(path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_CLOUD_LISTEN", "127.0.0.1:6001")
    monkeypatch.setenv("ISTHMUS_CLOUD_MAX_RUNNING_REQUESTS", "6")
    monkeypatch.setenv("ISTHMUS_CLOUD_BACKEND__MODEL", "n")
    config = CloudConfig.load(path, {"max_running_requests": 7})
    assert config.listen == "127.0.0.1:6001"
    assert config.max_running_requests == 7
    assert (config.backend.kind, config.backend.model) == ("openai", "n")
    assert str(config.prices[0].input_usd_per_mtok) == "0.15"


def test_without_a_file_everything_has_a_default():
    config = CloudConfig.load()
    assert (config.listen, config.metrics_listen) == ("127.0.0.1:50051", "127.0.0.1:9464")
    assert config.backend.kind == "embedded"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("listenn = 'x'", "listenn"),
        ("listen = 'nowhere'", "listen"),
        ("listen = '127.0.0.1:99999'", "listen"),
        ("listen = '0.0.0.0:50051'", "listen"),
        ("metrics_listen = 'unix:/run/metrics'", "metrics_listen"),
        ("token = ''", "token"),
        ("max_running_requests = 0", "max_running_requests"),
        ("[backend]\nmodle = 'x'", "backend.modle"),
        ("[[prices]]\ninput_usd_per_mtok = '-1'", "prices.0.input_usd_per_mtok"),
        ("[[prices]]\ninput_usd_per_mtok = '1'\n[ledger]\nkind = 'postgresql'", "ledger"),
        ("[ledger]\ndsn = 'postgresql://u:p@h/d'", "ledger"),
        ("[quotas.tenant]\nrequests_per_hour = 1", "quotas.tenant.requests_per_hour"),
        ("[quotas.tenants.acme.device]\nstreams = -1", "quotas.tenants.acme.device.streams"),
        ("tls_cert_file = 'x'", "tls_cert_file"),
        ("token = 'a'\ntoken_file = 'b'", "token"),
        ("tls_client_ca_file = 'x'", "tls_client_ca_file"),
        ("listen = '0.0.0.0:1'\nallow_plaintext = true", "listen"),
        (
            "listen = '0.0.0.0:1'\nallow_plaintext = true\ntoken = 'a'\n"
            "[auth]\nallow_anonymous = true",
            "auth.allow_anonymous",
        ),
        ("token = 'a'\n" + TOKENS, "token"),
        ("[auth]\nissuer = 'i'", "auth"),
        ("[auth]\njwks_file = 'j'\nissuer = 'i'", "auth"),
        ("[auth]\nrevoked_file = 'r'", "auth.revoked_file"),
        (TOKENS + "algorithms = ['HS256']", "auth.algorithms.0"),
        (TOKENS + "algorithms = ['none']", "auth.algorithms.0"),
        (TOKENS + "algorithms = []", "auth.algorithms"),
        ("this is not toml", "config"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, field):
    path = tmp_path / "cloud.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        CloudConfig.load(path)
    assert caught.value.field == field


def test_all_misspelt_settings_are_told_with_the_nearest_names(tmp_path):
    path = tmp_path / "cloud.toml"
    path.write_text('listn = "x"\n[limits]\nmax_promt_tokens = 3\n[zebra]\n')
    with pytest.raises(ConfigError) as caught:
        CloudConfig.load(path)
    assert "listn: is no setting; did you mean 'listen'?" in caught.value.message
    assert "limits.max_promt_tokens: is no setting; did you mean 'max_prompt_tokens'?" in str(
        caught.value
    )
    assert caught.value.message.endswith("zebra: is no setting")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[prices]]\ninptu_usd_per_mtok = '1'", "did you mean 'input_usd_per_mtok'?"),
        ("[[prices]]\nform = 2026-01-01", "did you mean 'from'?"),
        ("[quotas.tenants.acme.device]\nstream = 1", "did you mean 'streams'?"),
        ("[serving.speculation]\nmethd = 'ngram'", "did you mean 'method'?"),
        ("[backend.upstreams]\ndiscovery = 'dnss'", "did you mean 'dns'?"),
        ("[ledger]\nkind = 'postgres'", "did you mean 'postgresql'?"),
        ("accept_privacy_classes = ['publc']", "did you mean 'public'?"),
    ],
)
def test_a_misspelt_name_inside_of_a_list_a_mapping_or_a_choice_has_a_nearest_one_too(
    tmp_path, text, told
):
    path = tmp_path / "cloud.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        CloudConfig.load(path)
    assert told in caught.value.message


def test_a_misspelt_variable_is_an_error_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("ISTHMUS_CLOUD_LISTENN", "127.0.0.1:1")
    with pytest.raises(ConfigError) as caught:
        CloudConfig.load()
    assert caught.value.field == "listenn"
    assert caught.value.message.endswith("did you mean 'ISTHMUS_CLOUD_LISTEN'?")


@pytest.mark.parametrize(
    "table", ["[serving]\ndtype = 'float16'", "[backend.upstreams]\nvllm = true"]
)
def test_what_the_scripted_backend_does_not_read_is_refused(tmp_path, table):
    path = tmp_path / "cloud.toml"
    path.write_text(f"[backend]\nkind = 'scripted'\n{table}")
    config = CloudConfig.load(path)
    with pytest.raises(ConfigError, match="scripted backend"):
        backends.create(config.backend, config.serving)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        CloudConfig.load(tmp_path / "none.toml")


def test_a_secret_shows_in_no_error_and_no_repr(monkeypatch):
    monkeypatch.setenv("ISTHMUS_CLOUD_TOKEN", "hush")
    assert "hush" not in repr(CloudConfig.load())
    monkeypatch.setenv("ISTHMUS_CLOUD_TOKEN_FILE", "/x")
    with pytest.raises(ConfigError) as caught:
        CloudConfig.load()
    assert "hush" not in str(caught.value)


def test_plaintext_on_an_open_address_needs_to_be_asked_for():
    flags = {"listen": "0.0.0.0:1", "token": "hush", "allow_plaintext": True}
    assert CloudConfig.load(flags=flags).listen == "0.0.0.0:1"
    with pytest.raises(ConfigError, match="allow_plaintext = true"):
        CloudConfig.load(flags=flags | {"allow_plaintext": False})


def test_letting_everybody_in_on_an_open_address_needs_to_be_asked_for():
    flags = {"listen": "0.0.0.0:1", "allow_plaintext": True}
    open_to_all = flags | {"auth": {"allow_anonymous": True}}
    assert CloudConfig.load(flags=open_to_all).auth.allow_anonymous
    with pytest.raises(ConfigError, match=r"auth\.allow_anonymous = true"):
        CloudConfig.load(flags=flags)


def test_the_token_may_come_from_a_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("hush\n")
    assert CloudConfig.load(flags={"token_file": path}).static_token()() == "hush"
    for wrong in ("\n", "two words", "\u4ee4\u724c"):
        path.write_text(wrong)
        with pytest.raises(ConfigError) as caught:
            CloudConfig.load(flags={"token_file": path}).static_token()
        assert caught.value.field == "token_file"


def test_an_empty_address_of_the_metrics_serves_them_nowhere(tmp_path, monkeypatch):
    path = tmp_path / "cloud.toml"
    path.write_text("metrics_listen = ''")
    assert CloudConfig.load(path).metrics_listen is None
    monkeypatch.setenv("ISTHMUS_CLOUD_METRICS_LISTEN", "")
    assert CloudConfig.load().metrics_listen is None


def test_the_configuration_cannot_be_changed_later():
    with pytest.raises(ValueError, match="frozen"):
        CloudConfig.load().listen = "127.0.0.1:1"


def test_an_unknown_backend_is_answered_with_the_known_ones_and_the_nearest():
    with pytest.raises(
        ConfigError, match=r"embedded, openai, scripted, vllm; did you mean 'vllm'\?"
    ):
        backends.create(BackendConfig(kind="vlm"))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"kind": "embedded", "url": "http://x"}, "backend.url"),
        ({"kind": "embedded", "options": {"bakend": "native"}}, "backend.options.bakend"),
        ({"kind": "vllm", "threads": 2}, "backend.threads"),
        ({"kind": "openai", "url": "ftp://x"}, "backend.url"),
        ({"kind": "openai", "url": "http://x", "threads": 2}, "backend.threads"),
    ],
)
def test_a_setting_that_the_backend_does_not_read_is_refused_and_not_dropped(settings, field):
    with pytest.raises(ConfigError) as caught:
        backends.create(BackendConfig(**settings))
    assert caught.value.field == field
