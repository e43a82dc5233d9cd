"""Looking at a request before it may go anywhere.

Whose conversation it is, what is private in it, and in which form it may leave.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from isthmus.core import wire
from isthmus.core.chat import ChatRequest, Message, PrivacyClass, Role
from isthmus.core.decision import Reason
from isthmus.core.errors import DeadlineExceeded, PolicyRefused
from isthmus.edge.conversation import CLEAN, UNSCANNED, Conversation, Conversations, Taint
from isthmus.privacy import egress
from isthmus.privacy.fields import FixedField, UnscannedField
from isthmus.privacy.policy import Action, Policy, PrivacyConfig
from isthmus.privacy.recall import Recall
from isthmus.privacy.redact import AsksForValues, Redacted, redact
from isthmus.privacy.restore import AnswerRestorer
from isthmus.privacy.scan import ScanResult, TextScanner, scan_request
from isthmus.privacy.scanner import scans_stop_when
from isthmus.privacy.vault import Vault, VaultFull, Vaults

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_CANNOT_BE_REDACTED = (FixedField, AsksForValues, UnscannedField, VaultFull)


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a request: its conversation, what was found, and the policy for it."""

    conversation: Conversation
    found: ScanResult
    policy: Policy


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request in the form in which it may leave, and the way back for its answer."""

    request: ChatRequest
    labels: Mapping[str, int]
    """How many placeholders of each label are in it."""
    codes: frozenset[str]
    """The codes of those placeholders."""
    vault: Vault = field(repr=False)

    def check(self, data: bytes) -> None:
        """The last look at the bytes. Raises `EgressBlocked`."""
        egress.check(data, self.vault)

    def restorer(self) -> AnswerRestorer:
        """What puts the values back into the answer."""
        return AnswerRestorer(self.request, self.vault, self.codes)


class Screen:
    """The privacy gate: scan, policy, placeholders, and what earlier turns gave away."""

    def __init__(self, scanner: TextScanner, config: PrivacyConfig, *, timeout_s: float) -> None:
        self._scanner = Recall(scanner)
        self._policy = config.policy
        self._timeout_s = timeout_s
        self._conversations = Conversations()
        self.vaults = Vaults(ttl_s=config.vault_ttl_s)

    def warm_up(self) -> None:
        """Have the scanner load its models now, lest the first request wait for them. Blocking."""
        try:
            self._scanner.find("Warm up: John Smith, 张三")
        except Exception as error:
            log.warning("the privacy scanner does not work (%s)", type(error).__name__)

    async def look(self, request: ChatRequest) -> Look:
        """The request's conversation, and its scan together with what it inherits.

        Raises `InvalidRequest` when the request wishes for a looser policy than the settings'.
        """
        policy = self._policy.stricter(request.preference.privacy)
        found = await self._scan(request, policy)
        conversation = self._conversations.find(request.messages, request.preference.conversation)
        inherited = conversation.taint
        conversation = _tainted(conversation, request, found)
        if conversation.taint:
            # At once, not with the answer: a second try after a failure must know it too.
            self.remember(conversation, request)
        found = _judged(found, conversation, policy)
        if found.privacy_class is PrivacyClass.REDACTED:
            found = await self._redactable(request, Look(conversation, found, policy), inherited)
        return Look(conversation, found, policy)

    def remember(
        self, conversation: Conversation, request: ChatRequest, answer: Message | None = None
    ) -> None:
        """Link the request's messages, and the answer, to the conversation."""
        messages = request.messages if answer is None else (*request.messages, answer)
        self._conversations.remember(conversation, messages, name=request.preference.conversation)

    def use(self, config: PrivacyConfig) -> None:
        """Judge by these settings from the next request on; the detectors stay."""
        self._policy = config.policy

    def taint_of(self, name: str) -> Taint:
        """The labels of the conversation of this name."""
        return self._conversations.taint_of(name)

    def inherit(self, name: str, taint: Taint) -> None:
        """Take it that the conversation of this name had these labels."""
        self._conversations.inherit(name, taint)

    def forget(self, name: str) -> str:
        """Forget the labels and values of the conversation of this name; its id."""
        conversation = self._conversations.forget(name)
        self.vaults.wipe(conversation)
        return conversation

    async def outgoing(self, request: ChatRequest, look: Look) -> Outgoing:
        """`request` as it may leave. Raises `PolicyRefused` when it may not."""
        vault = self.vaults.of(look.conversation.id)
        try:
            redacted = await self._in_time(
                lambda scanner: self._redacted(request, look.policy, vault, scanner)
            )
        except PolicyRefused:
            raise
        except _CANNOT_BE_REDACTED as why:
            log.info("the request cannot be redacted (%s): it stays", type(why).__name__)
            raise _stays(Reason.PRIVACY_NOT_REDACTABLE) from None
        except Exception as error:
            log.warning("redacting failed (%s): the request stays", type(error).__name__)
            raise _stays(Reason.PRIVACY_SCAN_FAILED) from None
        hidden = redacted.request != request
        privacy_class = PrivacyClass.REDACTED if hidden else PrivacyClass.PUBLIC
        left = replace(redacted.request, privacy_class=privacy_class)
        return Outgoing(left, redacted.labels, redacted.codes, vault)

    @staticmethod
    async def last_look(outgoing: Outgoing) -> bytes:
        """The bytes that are about to leave, looked at in a thread.

        Raises `EgressBlocked`, and `DeadlineExceeded` when that takes too long.
        """
        data = wire.request_as_bytes(outgoing.request)
        try:
            async with asyncio.timeout(outgoing.request.deadline.remaining_s()):
                await asyncio.to_thread(outgoing.check, data)
        except TimeoutError:
            raise DeadlineExceeded("the time that the request gave is used up") from None
        return data

    @staticmethod
    def _redacted(
        request: ChatRequest, policy: Policy, vault: Vault, scanner: TextScanner
    ) -> Redacted:
        found = scan_request(request, scanner, policy)
        if found.privacy_class is PrivacyClass.UNKNOWN:
            raise _stays(Reason.PRIVACY_SCAN_FAILED)
        if found.privacy_class is PrivacyClass.SENSITIVE:
            raise _stays(Reason.PRIVACY_LOCAL_ONLY)
        return redact(
            request, vault, scanner.find, lambda label: policy.action(label) is Action.REDACT
        )

    async def _redactable(
        self, request: ChatRequest, look: Look, inherited: frozenset[str]
    ) -> ScanResult:
        """The result, `SENSITIVE` when no placeholders can stand for what was found."""
        found = look.found
        try:
            outgoing = await self.outgoing(request, look)
        except PolicyRefused as refused:
            if refused.reason == Reason.PRIVACY_SCAN_FAILED:
                return replace(found, privacy_class=PrivacyClass.UNKNOWN, failed=True)
            return replace(found, privacy_class=PrivacyClass.SENSITIVE, redactable=False)
        # A label that an earlier turn had, and of which no value is known (any more): an answer
        # may have repeated it in a form that no detector sees.
        known = outgoing.vault.labels | found.labels.keys()
        redacted = {one for one in inherited if look.policy.action(one) is Action.REDACT}
        if not redacted <= known:
            return replace(found, privacy_class=PrivacyClass.SENSITIVE, redactable=False)
        return replace(found, privacy_class=outgoing.request.privacy_class)

    async def _scan(self, request: ChatRequest, policy: Policy) -> ScanResult:
        """The scan, in a thread; one that fails or takes too long keeps the request here."""
        try:
            return await self._in_time(lambda scanner: scan_request(request, scanner, policy))
        except Exception as error:
            log.warning("the privacy scan failed (%s): the request stays", type(error).__name__)
            return ScanResult(PrivacyClass.UNKNOWN, failed=True)

    async def _in_time(self, work: Callable[[TextScanner], _T]) -> _T:
        stopped = threading.Event()
        try:
            with scans_stop_when(stopped.is_set):
                async with asyncio.timeout(self._timeout_s):
                    return await asyncio.to_thread(work, self._scanner)
        finally:
            stopped.set()  # nobody waits for the thread any more


def _tainted(conversation: Conversation, request: ChatRequest, found: ScanResult) -> Conversation:
    """The conversation with what was found in the request."""
    labels = list(found.messages) or [CLEAN] * len(request.messages)
    if found.failed:
        labels = [CLEAN] * len(request.messages)
        # The instructions before it come again with every request that obeys them, and are scanned
        # again; tainted, they would hold every other conversation that shares them here for good.
        instructions = {Role.SYSTEM, Role.DEVELOPER}
        spoken = (i for i, one in enumerate(request.messages) if one.role not in instructions)
        labels[next(spoken, 0)] = frozenset({UNSCANNED})
    else:
        # What is in no message (a tool's description) comes again, but the answer may repeat it.
        labels[-1] |= found.labels.keys()
    return conversation.tainted(labels)


def _judged(found: ScanResult, conversation: Conversation, policy: Policy) -> ScanResult:
    """The result under the policy, with the labels that the conversation inherits."""
    if found.failed or UNSCANNED in conversation.taint:
        return replace(found, privacy_class=PrivacyClass.UNKNOWN)
    verdict = policy.judge(conversation.taint | found.labels.keys(), found.blind)
    return replace(found, privacy_class=verdict.privacy_class)


def _stays(reason: Reason) -> PolicyRefused:
    return PolicyRefused(
        "something in the conversation must not leave the device, and cannot be redacted: allow "
        "the device (isthmus.route), or take the private value out",
        reason=reason.value,
        field="isthmus.route",
    )
