"""
page_owner text as Python sees it: an input is opened, read in windows, and parsed.

Whoever reads such a text does it through this room: page_owner_sort, the sources dump and trace.
It uses errors and the C core. In the kernel print_page_owner() of mm/page_owner.c writes the text.
"""
