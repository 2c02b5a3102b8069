"""
How Sphinx builds these pages: as HTML, and the folder man as man pages.

The man pages are also built when a wheel is, by a Python that has neither the C core nor what the
package depends on. With the tag ``manpages`` Sphinx reads the folder man alone, so that autodoc
imports nothing; a reference to another page is then plain text.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx import addnodes

if TYPE_CHECKING:
    from docutils.nodes import document
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

project = "pageownerfs"
author = "pageownerfs authors"
project_copyright = author
_init = (ROOT / "pageownerfs" / "__init__.py").read_text()
release = version = re.findall('^__version__ = "(.*)"$', _init, re.MULTILINE)[0]

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
# -o and --json are to stay as they are typed.
smartquotes = False
suppress_warnings: list[str] = []
if tags.has("manpages"):  # noqa: F821 - Sphinx defines it
    root_doc = "man/index"
    include_patterns = ["man/*"]
    # Pages that this build leaves out; the HTML build finds references that are wrong.
    suppress_warnings += ["ref.doc", "ref.ref"]

man_pages = [
    ("man/pageownerfs", "pageownerfs", "show who allocated each page of memory", author, 1),
    ("man/page_owner_sort", "page_owner_sort", "sort and group page_owner records", author, 1),
    ("man/mount.pageownerfs", "mount.pageownerfs", "mount a page_owner file system", author, 8),
]

html_theme = "furo"
html_title = f"pageownerfs {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Types in signatures: most are of the standard library, whose pages are not here.
nitpick_ignore_regex = [("py:class", ".*")]
# Beside the sources, also where another pageownerfs is installed.
sys.path.insert(0, str(ROOT))


def link_own_man_pages(app: Sphinx, doctree: document) -> None:
    """Make a link of each reference to one of our man pages: the role manpage has none."""
    pages = {f"{name}({section})": page for page, name, _, _, section in man_pages}
    for node in list(doctree.findall(addnodes.manpage)):
        page = pages.get(node.astext())
        if app.builder.format == "html" and page not in {None, app.env.docname}:
            target = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{page}"}
            reference = addnodes.pending_xref("", refdoc=app.env.docname, refwarn=True, **target)
            reference["refexplicit"] = True
            reference += node.deepcopy()
            node.replace_self(reference)


def setup(app: Sphinx) -> None:
    """Extend Sphinx."""
    app.connect("doctree-read", link_own_man_pages)
