"""
The words of the memory manager: names, numbers, records and formats, one module a kernel concept.

A module has the name that the concept has in the kernel: include/linux/gfp_types.h is gfp,
mm/vmstat.c is vmstat. Nothing here asks a machine or opens a file. It uses errors and constants of
the C core; every other room but text and page_owner_sort uses it.
"""
