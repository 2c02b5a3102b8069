"""Run ``page_owner_sort`` as ``python -m pageownerfs.page_owner_sort``."""

from .command import main

raise SystemExit(main())
