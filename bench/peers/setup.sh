#!/usr/bin/env bash
# Makes the Python environments of the servers that Mien is measured beside, in ../../.bin/peers: of those whose names
# are given, or of all. Those that exist already, and have what is wanted, are left alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() {
	echo "bench/peers/setup.sh: $*" >&2
	exit 1
}

# The versions that the lists pin have wheels for Python 3.11.
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || die "python3 is missing; install Python 3.11"
[[ $version == 3.11 ]] || die "python3 is $version; put a python3 that is Python 3.11 first in PATH"
python3 -c 'import ensurepip, venv' 2>/dev/null ||
	die "python3 cannot make virtual environments; install Debian's package python3-venv (e2e/setup.sh does)"

if (($# == 0)); then
	lists=(servers/*/requirements.txt)
	set -- "${lists[@]%/requirements.txt}"
	set -- "${@#servers/}"
fi

# The copy of the list is in the environment only if everything in it is.
for name; do
	list=servers/$name/requirements.txt
	[[ -f $list ]] || die "there is no bench/peers/$list"
	environment=../../.bin/peers/$name
	if ! cmp -s "$list" "$environment/installed.txt"; then
		rm -rf "$environment"
		python3 -m venv "$environment"
		"$environment/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$list"
		cp "$list" "$environment/installed.txt"
	fi
done
