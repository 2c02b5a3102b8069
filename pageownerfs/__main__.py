"""Run ``pageownerfs`` as ``python -m pageownerfs``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
