# shellcheck shell=bash
# Functions that make a minimal Debian in a directory and run commands in it. bash sources this file after lib.sh.
# They need root and mmdebstrap. The commands run on this machine's kernel.

# debian_mirror - print the mirror that this machine uses, if it is one of Debian
debian_mirror() {
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n 1 || true
}

# make_root SUITE DIR [PACKAGE...] - make a Debian with a copy of the checkout's tracked files in /src
make_root() {
	local suite=$1 dir=$2 mirror packages
	shift 2
	packages=$*
	[ "$(id -u)" = 0 ] || die "needs root to change the root directory"
	need_packages mmdebstrap:mmdebstrap unshare:util-linux
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || {
		apt_update
		apt-get -qq -y --no-install-recommends install debian-archive-keyring </dev/null >/dev/null ||
			die "apt-get could not install: debian-archive-keyring"
	}
	mirror=$(debian_mirror)
	mirror=${mirror:-http://deb.debian.org/debian}
	say "Making a minimal Debian $suite..."
	# Signatures are checked, but not their dates: a mirror may be a snapshot of an earlier day.
	mmdebstrap --quiet --variant=minbase ${packages:+--include="${packages// /,}"} \
		--aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$dir" "deb $mirror $suite main" "deb-src $mirror $suite main" \
		>"$dir.log" 2>&1 || {
		cat "$dir.log" >&2
		die "mmdebstrap failed"
	}
	mkdir -p "$dir/src"
	git -C "$ROOT" ls-files -z | tar -C "$ROOT" --null -T - -cf - | tar -C "$dir/src" -xf -
	cp -L /etc/resolv.conf "$dir/etc/resolv.conf"
	# pip needs the same certificates there. Keep them apart from those of the package ca-certificates.
	if [ -n "${PIP_CERT:-}" ]; then
		install -m 0644 "$PIP_CERT" "$dir/etc/pip-certificates.crt"
	fi
}

# run_in_root DIR COMMAND - run it with sh in the root's /src, as root in its own mount namespace
run_in_root() {
	env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 \
		${PIP_CERT:+PIP_CERT=/etc/pip-certificates.crt} \
		${PIP_DEFAULT_TIMEOUT:+PIP_DEFAULT_TIMEOUT="$PIP_DEFAULT_TIMEOUT"} \
		${PAGEOWNERFS_REQUIRE:+PAGEOWNERFS_REQUIRE="$PAGEOWNERFS_REQUIRE"} \
		unshare --mount --fork --kill-child sh -s "$@" <<-'INSIDE'
			set -e
			root=$1 command=$2
			# Make "/" of the new root a mount point, as on a real machine.
			mount --bind "$root" "$root"
			mount -t proc proc "$root/proc"
			mount --rbind /sys "$root/sys"
			mount --rbind /dev "$root/dev"
			mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
			cd "$root"
			# Remove the machine's mounts from this namespace, where they would survive their unmount.
			pivot_root . mnt
			umount -l /mnt
			exec chroot . /bin/sh -c "cd /src && $command" </dev/null
		INSIDE
}
