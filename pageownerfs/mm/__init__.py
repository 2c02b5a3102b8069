"""
Names, numbers, records and formats of the kernel's memory management, one module per concept.

A module is named after the concept in the kernel: include/linux/gfp_types.h is gfp, mm/vmstat.c is
vmstat. Nothing here queries the machine or opens a file. This room uses errors.py and constants of
the C core. Every other room except text and page_owner_sort uses it.
"""
