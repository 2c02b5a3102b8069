"""
Read page_owner text: open an input, read it in windows, parse its records.

page_owner_sort and the sources dump and trace read text through this room. It uses errors.py and
the C core. In the kernel, print_page_owner() of mm/page_owner.c writes the text.
"""
