"""The text of the stacks that a tracker has recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pageownerfs.mm.stack_depot import Frame, format_source_lines, format_stack

from .user_stacks import UserStacks, split_user_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .kallsyms import Kallsyms
    from .tracker import Tracker

# Names of frames of the programs themselves and of their callers.
_OWN_FRAMES: Final = (
    *("bpf_prog_", "bpf_trampoline_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"),
    *("bpf_get_stack", "__bpf_prog_enter", "__bpf_prog_exit", "arch_rethook", "ftrace_"),
)


class KernelStacks:
    """Stacks by their handles; they stay readable when the tracker is closed."""

    def __init__(
        self,
        tracker: Tracker,
        kallsyms: Kallsyms,
        special: Mapping[int, Sequence[Frame]],
        user_stacks: UserStacks | None,
    ) -> None:
        """
        Name the stacks of ``tracker``.

        :param special: frames of the handles that stand for no stack of the kernel
        :param user_stacks: names user frames; None: there are none
        """
        self._tracker = tracker
        self._kallsyms = kallsyms
        self._special = special
        self.user_stacks = user_stacks

    def text(self, handle: int, /, *, source_lines: bool = False) -> bytes:
        """Return the lines of a stack, innermost frame first.

        :raises ValueError: no stack has this handle
        """
        frames = self._frames(handle)
        return format_source_lines(frames) if source_lines else format_stack(frames)

    def _frames(self, handle: int) -> Sequence[Frame]:
        if handle in self._special:
            return self._special[handle]
        tracker = self._tracker
        kernel, user = split_user_words(tracker.stack_words(handle))
        frames = [self._kallsyms.frame(tracker.text_base | word) for word in kernel]
        while frames and frames[0].name.startswith(_OWN_FRAMES):
            del frames[0]
        del frames[tracker.options.stack_depth :]
        if user is not None and self.user_stacks is not None:
            frames += self.user_stacks.frames(user)
        return frames
