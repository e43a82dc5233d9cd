"""`isthmus top` on a terminal. The one module that knows Textual (the extra `top`)."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from isthmus.cli.top_source import Snapshot, Source
from isthmus.cli.top_view import BAD, EDGE, WARN, panels, title

_LEFT: Final = ("answers", "latency", "money")
_RIGHT: Final = ("promises", "privacy", "cloud", "device", "gateway")
_NARROW: Final = 76
"""Below so many cells the panels stand one under the other."""
_FRAME: Final = 4
"""Cells of a panel that are its border and padding."""
_LOW: Final = 26
"""Up to so many lines a chart has one; of those beyond, each chart gets a fourth."""
_MOST_ROWS: Final = 6

_HELP: Final = """\
w, W    a longer window, a shorter one
p       pause, and go on
r       look now
↑ ↓     scroll, where it does not fit
q       quit

edge    answered on the device
cloud   answered by the gateway
Charts: one column a bucket of the window, edge and cloud on the same scale.
Promises kept: the share of answers within ttft_slo_ms and tpot_slo_ms.
Money: what was paid to the cloud, and what the device's answers would have cost there.
Privacy: requests kept here for what is in them, redacted, and values that the last
check stopped on their way out (should be 0). Labels are counted since the start.
"""


class Help(ModalScreen[None]):
    """The keys and the words."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Back"),
    ]

    def compose(self) -> ComposeResult:
        """One page."""
        with VerticalScroll():
            yield Static(_HELP, markup=False)
        yield Footer()


class Top(App[None]):
    """The running system. Looks at `source` every `every_s`."""

    CSS = """
    #head { height: 1; background: $panel; padding: 0 1; }
    #notice { height: auto; padding: 0 1; display: none; }
    #body { height: auto; }
    #body > Vertical { height: auto; width: 1fr; }
    .narrow #body { layout: vertical; }
    VerticalScroll { scrollbar-size-vertical: 1; }
    .panel { height: auto; border: round $foreground-darken-3; border-title-style: bold;
        border-title-color: $foreground; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    .panel.-empty { display: none; }
    .away .panel { opacity: 50%; }
    Help { align: center middle; }
    Help VerticalScroll { width: 90; max-width: 100%; height: auto; max-height: 90%;
        border: round $primary; background: $surface; padding: 0 1; }
    """
    TITLE = "Isthmus"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("w", "window(1)", "Window"),
        Binding("W", "window(-1)", "Shorter", show=False),
        Binding("p", "pause", "Pause"),
        Binding("r", "look", "Look now"),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]

    def __init__(
        self, source: Source, windows: tuple[str, ...], window: str, *, every_s: float
    ) -> None:
        super().__init__()
        self._source = source
        self._windows = windows
        self._window = window
        self._every_s = every_s
        self._paused = False
        self._seen: Snapshot | None = None
        self._away_since: float | None = None
        self._looking = asyncio.Lock()
        # Kept, since a search for one fails while the help is in front.
        self._head = Static(id="head", markup=False)
        self._notice = Static(id="notice", markup=False)
        self._body = VerticalScroll()
        self._panels = {
            name: Static(id=name, classes="panel -empty", markup=False)
            for name in (*_LEFT, *_RIGHT)
        }

    def compose(self) -> ComposeResult:
        """A head, two columns of panels, the keys."""
        yield self._head
        with self._body, Horizontal(id="body"):
            for names in (_LEFT, _RIGHT):
                with Vertical():
                    yield from (self._panels[name] for name in names)
        yield self._notice
        yield Footer()

    async def on_mount(self) -> None:
        """Begin to look."""
        self._body.focus()
        self._show_head()
        self.set_interval(self._every_s, self._tick)
        self.run_worker(self._look(), exclusive=False)

    def on_resize(self, event: Resize) -> None:
        """Fit."""
        self.set_class(event.size.width < _NARROW, "narrow")
        self._show()

    def action_window(self, step: int) -> None:
        """Another window, in a circle."""
        at = self._windows.index(self._window) + step
        self._window = self._windows[at % len(self._windows)]
        self._show_head()
        self.action_look()

    def action_pause(self) -> None:
        """Hold the picture, or go on."""
        self._paused = not self._paused
        self._show_head()
        if not self._paused:
            self.action_look()

    def action_look(self) -> None:
        """Look now."""
        self.run_worker(self._look(), exclusive=False)

    def action_help(self) -> None:
        """The keys and the words."""
        self.push_screen(Help())

    def _tick(self) -> None:
        if not self._paused and not self._looking.locked():
            self.action_look()

    async def _look(self) -> None:
        async with self._looking:
            window = self._window
            seen = await self._source.look(window)
        if seen.live is None:
            self._away_since = self._away_since or seen.at_unix_s
            if self._seen is not None:
                # The last picture stays, paler.
                self._show_problem(seen.problem)
                self.add_class("away")
                return
        else:
            self._away_since = None
        if window == self._window:
            self._seen = seen
        self._show_problem(seen.problem)
        self.set_class(seen.live is None, "away")
        self._show()
        self._show_head()

    def _show_problem(self, problem: str | None) -> None:
        self._notice.display = problem is not None
        if problem is not None and self._away_since is not None:
            since = time.strftime("%H:%M:%S", time.localtime(self._away_since))
            self._notice.update(Text(f"away since {since}: {problem} (trying again)", BAD))

    def _show_head(self) -> None:
        state = ("paused", WARN) if self._paused else ("", EDGE)
        at = self._seen.at_unix_s if self._seen is not None else time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(at))
        shown = Snapshot(at, self._source.url, None)
        head = Text.assemble((title(shown, self._window), "bold"), f"   {clock}   ", state)
        self._head.update(head)

    def _show(self) -> None:
        if self._seen is None:
            return
        wide, high = self.size.width, self.size.height
        columns = 1 if wide < _NARROW else 2
        # One for the scroll bar.
        cells = max(16, (wide - 2) // columns - _FRAME)
        rows = 1 if columns == 1 else max(1, min(_MOST_ROWS, 1 + (high - _LOW) // 4))
        made = {panel.name: panel for panel in panels(self._seen, cells, rows)}
        for name, widget in self._panels.items():
            panel = made.get(name)
            widget.set_class(panel is None, "-empty")
            if panel is not None:
                widget.border_title = panel.title
                widget.update(Text("\n").join(panel.lines))
