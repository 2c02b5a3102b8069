# shellcheck shell=bash
# Functions that the scripts share. bash sources this file; it prints to stderr only.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
CACHE_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/pageownerfs
# fusepy has no wheel. PEP 517 builds it even where pip still defaults to the legacy build.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_USE_PEP517=1

say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "$(basename "$0"): $*"
	exit 1
}

# as_root COMMAND... - run it as root; false if that would ask a question that nobody can answer
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
		sudo "$@"
	else
		return 1
	fi
}

apt_update() {
	as_root apt-get -q update >/dev/null || say "apt-get update failed; continuing with the old package lists"
}

# usable_python PROGRAM - true if it is 3.11 or later and can make virtual environments and build C extensions
usable_python() {
	"$1" -c '
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info < (3, 11) or not os.path.exists(header))
' >/dev/null 2>&1
}

# find_python - set PYTHON. The system's Python comes first because every user can run it, unlike one in a home
# directory. The variable PYTHON, if set, names the one to use.
find_python() {
	local candidate
	for candidate in ${PYTHON:-/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11}; do
		if usable_python "$candidate"; then
			PYTHON=$candidate
			return 0
		fi
	done
	return 1
}

# python_packages - package names of a suitable Python
python_packages() {
	local version
	if ! command -v apt-cache >/dev/null ||
		apt-cache policy python3 | grep -E 'Candidate: 3\.(1[1-9]|[2-9][0-9])' >/dev/null; then
		echo python3 python3-venv python3-dev
		return
	fi
	for version in 3.14 3.13 3.12 3.11; do
		if apt_has "python$version-venv"; then
			echo "python$version python$version-venv python$version-dev"
			return
		fi
	done
	echo "python3 (3.11 or later) python3-venv python3-dev"
}

apt_has() {
	command -v apt-cache >/dev/null && apt-cache show "$1" >/dev/null 2>&1
}

has_compiler() {
	echo '#include <stdio.h>' | gcc -E -x c - >/dev/null 2>&1
}

has_libfuse() {
	PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep "libfuse\.so\.2 " >/dev/null
}

has_libbpf() {
	PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep "libbpf\.so\.1 " >/dev/null
}

# can_build_bpf - true if setup.py can build the kernel source's programs: it needs clang and libbpf's headers
can_build_bpf() {
	echo '#include <bpf/bpf_helpers.h>' | "${CLANG:-clang}" -M -x c - >/dev/null 2>&1
}

# has_source VERSION - true if linux-source-VERSION can be downloaded. The name must match exactly: apt treats an
# unknown name as a pattern, in which a dot is any character, and would take 6.12 for 6.1.
has_source() {
	apt-cache madison "linux-source-$1" 2>/dev/null | awk -v name="linux-source-$1" '$1 == name { found = 1 } END { exit !found }'
}

# download_source VERSION DIRECTORY - download the package linux-source-VERSION without installing it
download_source() {
	command -v apt-get >/dev/null || die "apt-get not found; it is needed to download the kernel's source"
	has_source "$1" || apt_update
	has_source "$1" || die "apt knows no linux-source-$1: this distribution does not have it"
	# apt's download user, _apt, may not write to a private directory: stay root if we are root.
	(cd "$2" && apt-get -q -o APT::Sandbox::User=root download "linux-source-$1" >apt.log 2>&1) ||
		die "cannot download linux-source-$1: $(tail -n 1 "$2/apt.log")"
}

has_libelf_headers() {
	echo '#include <gelf.h>' | gcc -E -x c - >/dev/null 2>&1
}

# missing_packages FOR... - print the missing packages by their Debian and Ubuntu names. FOR is any of python,
# build (a C compiler), mount (libfuse and fusermount), bpf (clang and libbpf, for the kernel source), kernel (to
# build one), shells (zsh, fish, bash-completion, and man), and COMMAND:PACKAGE.
missing_packages() {
	local item
	for item in "$@"; do
		case $item in
		python) find_python || python_packages ;;
		build) has_compiler || echo gcc libc6-dev ;;
		mount)
			# The package was renamed for 64-bit time_t.
			has_libfuse || if apt_has libfuse2t64; then echo libfuse2t64; else echo libfuse2; fi
			command -v fusermount >/dev/null || echo fuse3
			;;
		bpf)
			can_build_bpf || echo clang libbpf-dev
			has_libbpf || echo libbpf1
			;;
		kernel)
			missing_packages make:make flex:flex bison:bison bc:bc pahole:pahole xz:xz-utils patch:patch
			has_libelf_headers || echo libelf-dev
			;;
		shells)
			missing_packages man:man-db zsh:zsh fish:fish
			[ -e /usr/share/bash-completion/bash_completion ] || echo bash-completion
			;;
		*:*) command -v "${item%%:*}" >/dev/null || echo "${item#*:}" ;;
		esac
	done | xargs
}

# need_packages FOR... - install missing packages and set PYTHON; if that fails, die and name the packages
need_packages() {
	local missing
	missing=$(missing_packages "$@")
	if [ -n "$missing" ]; then
		command -v apt-get >/dev/null || die "missing: $missing (Debian's names). apt-get not found; install them yourself"
		as_root true || die "missing packages: $missing. Installing them needs root or sudo: apt-get install $missing"
		say "Installing system packages..."
		apt_update
		missing=$(missing_packages "$@")
		# shellcheck disable=SC2086  # a list
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing </dev/null >/dev/null ||
			die "apt-get could not install: $missing"
		missing=$(missing_packages "$@")
		[ -z "$missing" ] || die "still missing after apt-get install: $missing"
	fi
	find_python || die "no Python 3.11 or later with venv, pip and headers (tried ${PYTHON:-the usual places})"
}

# sources_key - changes if the editable install must be repeated; a changed .py file does not need that
sources_key() {
	{
		echo "$ROOT ${PAGEOWNERFS_WERROR:-0} ${CLANG:-}"
		# Rebuild once the BPF programs can be built.
		can_build_bpf && echo bpf
		"$VENV/bin/python" -VV
		sha256sum "$ROOT"/setup.cfg "$ROOT"/setup.py "$ROOT"/pyproject.toml "$ROOT"/scripts/build/*.py "$ROOT"/pageownerfs/native/*/*.[ch]
	} 2>/dev/null | sha256sum | cut -d' ' -f1
}

# has_extras EXTRA... - true if the install has all of them
has_extras() {
	local extra
	for extra in "$@"; do
		grep -qx "extra $extra" "$VENV/installed" || return 1
	done
}

# make_venv [EXTRA...] - make the checkout's virtual environment, with the package (editable) and the dependencies of
# each EXTRA. Does nothing if nothing has changed since the last time.
make_venv() {
	local key extras
	if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
		say "Making a virtual environment in $VENV..."
		"$PYTHON" -m venv --clear "$VENV" || die "cannot make a virtual environment in $VENV"
	fi
	key=$(sources_key)
	if grep -qsx "key $key" "$VENV/installed" && has_extras "$@"; then
		return
	fi
	# Keep the extras of earlier runs, so that two scripts don't undo each other's work.
	extras=$({ printf '%s\n' "$@"; sed -n 's/^extra //p' "$VENV/installed" 2>/dev/null; } | sort -u | xargs)
	say "Building and installing pageownerfs into $VENV..."
	rm -f "$VENV/installed"
	"$VENV/bin/python" -m pip -q install -e "$ROOT${extras:+[${extras// /,}]}" </dev/null >&2 || die "the installation failed; see above"
	{
		echo "key $key"
		[ -z "$extras" ] || printf 'extra %s\n' $extras
	} >"$VENV/installed"
}
