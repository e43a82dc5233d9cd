"""What needs the vLLM that is installed and no engine: options, errors and what it may log.

Run by `make test-vllm`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from isthmus.cloud.serving.arguments import engine_arguments, serve_flags
from isthmus.cloud.serving.config import ServingConfig
from isthmus.core import errors
from processes import Program
from vllm_gateway import MODEL, NEEDS_VLLM, SERVING, settings

pytestmark = NEEDS_VLLM
SECRET = "Xylophonia"


# Importing vLLM imports torch, which warns of itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_this_vllm_takes_every_feature_of_the_example():
    from isthmus.cloud.serving import config as serving_config
    from isthmus.cloud.serving.installed import installed

    lines = [line[4:] for line in serving_config.__doc__.splitlines() if line[:4] in {"", "    "}]
    example = tomllib.loads("\n".join(lines))["serving"]
    assert len(example) > 8
    installed().check(ServingConfig.model_validate(example))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_vllm_serve_reads_the_printed_flags_as_the_arguments_of_the_engine_in_process():
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    serving = ServingConfig.model_validate(
        tomllib.loads(f"[serving]\n{SERVING}")["serving"]
        | {"speculation": {"method": "ngram", "tokens": 3, "lookup_max": 4}}
        | {"disaggregation": {"connector": "NixlConnector", "role": "kv_both"}}
    )
    arguments = engine_arguments(serving)
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(
        ["--model", *serve_flags(MODEL, serving)]
    )
    by_flags = AsyncEngineArgs.from_cli_args(parsed)
    assert by_flags.model == MODEL
    transfer = by_flags.kv_transfer_config
    assert (transfer.kv_connector, transfer.kv_role) == ("NixlConnector", "kv_both")
    arguments.pop("kv_transfer_config")
    assert {name: getattr(by_flags, name) for name in arguments} == arguments


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_vllm_serve_knows_every_flag_and_variable_of_the_chart():
    import vllm.envs
    import yaml
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    helm = Path(__file__).parents[2] / "deploy" / "helm"
    template = (helm / "isthmus" / "templates" / "vllm.yaml").read_text(encoding="utf-8")
    always = re.findall(r"^ +- (--\S+)$", template, flags=re.M)
    assert len(always) == 2
    served = 0
    for values in helm.glob("values-*.yaml"):
        arguments = yaml.safe_load(values.read_text(encoding="utf-8")).get("vllm", {}).get("args")
        if arguments:
            served += 1
            make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", *arguments, *always])
    assert served == 2
    names = set(re.findall(r"name: (VLLM_\w+)", template))
    assert len(names) == 3
    assert names <= set(vllm.envs.environment_variables)


def test_an_option_that_vllm_does_not_know_ends_the_gateway_with_the_nearest_name(tmp_path):
    config = tmp_path / "cloud.toml"
    misspelt = SERVING.replace("enforce_eager", "enforce_eagr")
    config.write_text(settings(tmp_path, misspelt))
    program = Program("cloud", "serve", "--config", str(config))
    program.wait_for(r"error: serving\.engine\.enforce_eagr .* did you mean 'enforce_eager'\?", 120)
    assert program.process.wait(20) == 2
    program.stop()


# Importing vLLM imports torch, which warns of itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_vllms_errors_are_ours_without_its_words():
    from vllm.exceptions import (
        MaxQueuedTokensError,
        QueueOverflowError,
        VLLMServerError,
        VLLMValidationError,
    )
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    from isthmus.cloud.backends.vllm import error_of

    secret = "the user's own words"
    for theirs, kind in (
        (QueueOverflowError(), errors.Overloaded),
        (MaxQueuedTokensError(), errors.Overloaded),
        (EngineGenerateError(secret), errors.InternalError),
        (EngineDeadError(), errors.Unavailable),
        (VLLMValidationError(secret, parameter="top_k"), errors.InvalidRequest),
        (VLLMServerError(secret), errors.InternalError),
        (RuntimeError(secret), errors.InternalError),
        (errors.ContextTooLong("long"), errors.ContextTooLong),
    ):
        ours = error_of(theirs)
        assert type(ours) is kind
        assert secret not in ours.message
    assert error_of(VLLMValidationError(secret, parameter="top_k")).field == "top_k"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_vllm_dumps_when_it_crashes_shows_no_word_of_a_user():
    """Its dump quotes sampling parameters: stop strings and schemas."""
    program = (
        "from isthmus.cloud.backends.vllm import _prepare_environment\n"
        "import sys\n"
        "_prepare_environment() if sys.argv[1] == 'ours' else None\n"
        "from vllm.logging_utils.dump_input import dump_engine_exception\n"
        "from vllm import SamplingParams\n"
        "from vllm.config.logging import LoggingConfig\n"
        "from vllm.logger import configure_logging\n"
        "from vllm.v1.core.sched.output import NewRequestData\n"
        "configure_logging(LoggingConfig())\n"
        f"asked = SamplingParams(stop=[{SECRET!r}])\n"
        "request = NewRequestData('r1', [1], [], asked, None, ([0],), 0, None)\n"
        "dump_engine_exception('config', request, None)\n"
    )

    def said(whose):
        command = [sys.executable, "-c", program, whose]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout + done.stderr

    assert SECRET in said("theirs")
    assert SECRET not in said("ours")


@pytest.mark.parametrize("name", ["enable_log_requests", "log_config_file"])
async def test_an_argument_that_logs_what_users_write_is_refused(name):
    from isthmus.cloud.backends.base import BackendConfig
    from isthmus.cloud.backends.vllm import VllmBackend

    serving = ServingConfig.model_validate({"engine": {name: True}})
    with pytest.raises(errors.ConfigError) as caught:
        await VllmBackend(BackendConfig(kind="vllm", model=MODEL), serving).start()
    assert caught.value.field == f"serving.engine.{name}"
