"""What can be said of upstreams in the gateway's configuration: the table `[backend.upstreams]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class UpstreamsConfig(BaseModel):
    """How upstreams are found, watched and chosen. The defaults are for vLLM servers."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    discovery: Literal["static", "dns"] = "static"
    """`static`: an address is an upstream. `dns`: each address that its host name has is one, as
    with a headless service of Kubernetes; the name is asked again every `resolve_s`."""
    resolve_s: float = Field(default=5.0, gt=0)
    """Seconds between two questions for a name."""
    probe_s: float = Field(default=2.0, gt=0)
    """Seconds between two probes of an upstream, give or take a fifth."""
    probe_timeout_s: float = Field(default=2.0, gt=0)
    """How long a probe may take."""
    first_token_s: float = Field(default=60.0, gt=0)
    """How long an upstream may queue and read a prompt before it is taken to hang."""
    silence_s: float = Field(default=30.0, gt=0)
    """How long it may be silent within an answer before it is taken to hang."""
    attempts: int = Field(default=3, ge=1)
    """How many upstreams are tried, one behind the other, without a word of answer between."""
    eject_after: int = Field(default=3, ge=1)
    """Failures in a row that eject an upstream. So does failing more than half of late."""
    eject_s: float = Field(default=5.0, gt=0)
    """How long the first ejection takes; each further one takes twice as long."""
    max_eject_s: float = Field(default=300.0, gt=0)
    """The longest ejection."""
    slow_start_s: float = Field(default=30.0, ge=0)
    """How long a newcomer, or one that returns, takes to get its whole share."""
    sticky: bool = True
    """Send a conversation where its beginning is in the prefix cache, unless that is overloaded.
    Of no use where the upstream is a router that does so itself."""
    read_load: bool = True
    """Ask upstreams that are vLLM for their queues (`/metrics`), with every probe."""
    vllm: bool | None = None
    """It is vLLM, or leads to it, and takes what vLLM takes beyond OpenAI's protocol; none: if its
    list of models says so, which that of vLLM, vllm-router and production-stack does."""
    prompt_logprobs: bool | None = None
    """It tells a prompt's log-probabilities, by which drafts are judged; none: if it is vLLM."""
    cache_salt: bool | None = None
    """It keeps the prefixes of tenants apart by a salt that requests bring; none: if it is vLLM. A
    router before vLLM servers that does not say so needs it, one before others may refuse it."""
    continue_final_message: bool | None = None
    """It goes on with a begun answer; none: if it is vLLM. Without it no answer moves once a part
    of it is told."""
