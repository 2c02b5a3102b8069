"""Make directories from a table of paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import Directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .view import Node


class Tree(Directory):
    """A directory made from a table of paths, with its subdirectories."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        """
        Make the directory and its subdirectories.

        :param nodes: nodes by path: ``page_owner``, ``page_owner_stacks/show_stacks``
        """
        self._nodes: dict[str, Node] = {}
        below: dict[str, dict[str, Node]] = {}
        for path, node in nodes.items():
            name, slash, rest = path.partition("/")
            if slash:
                below.setdefault(name, {})[rest] = node
                self._nodes.setdefault(name, self)  # keeps the place
            else:
                self._nodes[name] = node
        for name, table in below.items():
            self._nodes[name] = Tree(table)

    def absent(self) -> str | None:
        """Return why the directory is absent: the reason of its first node if all are absent."""
        reasons = [node.absent() for node in self._nodes.values()]
        return reasons[0] if reasons and all(reasons) else None

    def names(self) -> Iterable[str]:
        """List the nodes that are present now."""
        return [name for name, node in self._nodes.items() if node.absent() is None]

    def lookup(self, name: str) -> Node | None:
        """Find a node, absent or not."""
        return self._nodes.get(name)

    def all_absent(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yield the path of each node that is absent now, and why."""
        for name, node in self._nodes.items():
            reason = node.absent()
            if reason is not None:
                yield prefix + name, reason
            elif isinstance(node, Tree):
                yield from node.all_absent(f"{prefix}{name}/")
