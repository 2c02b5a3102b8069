"""On a free-threaded Python, importing the core turns on the GIL, which callers hold."""

import subprocess
import sys
import sysconfig

import pytest

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python"
)


def test_import_turns_the_gil_on() -> None:
    """Python turns it on and says so once, because the module does not claim to run without it."""
    code = (
        "import sys; print(sys._is_gil_enabled()); "
        "import pageownerfs._native; print(sys._is_gil_enabled())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\nTrue\n"
    assert done.stderr.count("(GIL) has been enabled to load module 'pageownerfs._native'") == 1
