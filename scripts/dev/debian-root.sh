# shellcheck shell=bash
# Functions that make a minimal Debian in a directory and run commands in it. To be sourced by bash, after lib.sh.
# They need root and mmdebstrap. The kernel is this machine's.

# debian_mirror - the mirror that this machine uses; nothing where that is none of Debian's
debian_mirror() {
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n 1 || true
}

# make_root SUITE DIR [PACKAGE...] - a Debian with a copy of the checkout's tracked files in /src
make_root() {
	local suite=$1 dir=$2 mirror packages
	shift 2
	packages=$*
	[ "$(id -u)" = 0 ] || die "needs root, to change into another root directory"
	need_packages mmdebstrap:mmdebstrap unshare:util-linux
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || {
		apt_update
		apt-get -qq -y --no-install-recommends install debian-archive-keyring </dev/null >/dev/null ||
			die "apt-get could not install: debian-archive-keyring"
	}
	mirror=$(debian_mirror)
	mirror=${mirror:-http://deb.debian.org/debian}
	say "Making a minimal Debian $suite..."
	# The signatures are checked. Their dates are not: a mirror may be one of a day that is long ago.
	mmdebstrap --quiet --variant=minbase ${packages:+--include="${packages// /,}"} \
		--aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$dir" "deb $mirror $suite main" "deb-src $mirror $suite main" \
		>"$dir.log" 2>&1 || {
		cat "$dir.log" >&2
		die "mmdebstrap failed"
	}
	mkdir -p "$dir/src"
	git -C "$ROOT" ls-files -z | tar -C "$ROOT" --null -T - -cf - | tar -C "$dir/src" -xf -
	cp -L /etc/resolv.conf "$dir/etc/resolv.conf"
	# Certificates that pip needs here, it needs there; not where the package ca-certificates puts its own.
	if [ -n "${PIP_CERT:-}" ]; then
		install -m 0644 "$PIP_CERT" "$dir/etc/pip-certificates.crt"
	fi
}

# run_in_root DIR COMMAND - run it by sh in the root's /src, as root of a mount namespace of its own
run_in_root() {
	env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 \
		${PIP_CERT:+PIP_CERT=/etc/pip-certificates.crt} \
		${PIP_DEFAULT_TIMEOUT:+PIP_DEFAULT_TIMEOUT="$PIP_DEFAULT_TIMEOUT"} \
		${PAGEOWNERFS_REQUIRE:+PAGEOWNERFS_REQUIRE="$PAGEOWNERFS_REQUIRE"} \
		unshare --mount --fork --kill-child sh -s "$@" <<-'INSIDE'
			set -e
			root=$1 command=$2
			# "/" of the new root is to be a mount point, as it is on a machine.
			mount --bind "$root" "$root"
			mount -t proc proc "$root/proc"
			mount --rbind /sys "$root/sys"
			mount --rbind /dev "$root/dev"
			mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
			cd "$root"
			# The machine's mounts go from this namespace: here they would live on after their unmount.
			pivot_root . mnt
			umount -l /mnt
			exec chroot . /bin/sh -c "cd /src && $command" </dev/null
		INSIDE
}
