// SPDX-License-Identifier: MIT
/*
 * kernel_table.c - what of the running kernel's pages is not in the table: asked for by a BPF
 * program.
 */
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tables/kernel_table.h"

void page_scanner_scan(struct page_scanner *scanner, struct lookahead *ahead)
{
	struct page_scan *scan = scanner->scan;
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = (u32)scanner->prog_fd;
	pthread_mutex_lock(&scanner->lock);
	scan->nr = ahead->nr;
	memcpy(scan->pfn, ahead->pfn, ahead->nr * sizeof(scan->pfn[0]));
	if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr)) == 0)
		memcpy(ahead->info, scan->info, ahead->nr * sizeof(scan->info[0]));
	pthread_mutex_unlock(&scanner->lock);
}
