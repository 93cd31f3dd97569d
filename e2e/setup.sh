#!/usr/bin/env bash
# Installs what the tests need: Debian packages, npm packages into node_modules, grpc-java
# into java/jars, and nginx, haproxy, Caddy, Schemathesis, tritonclient and perf_analyzer into ../.bin. If everything is installed, it does and prints nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# gcc and libc6-dev are for Go's race detector. protobuf-compiler-grpc is the gRPC plugin of the same release as the library.
# The protoc in python3-grpc-tools is too old for optional fields in proto3. qemu-user runs binaries for arm64.
debian=(
	chromium
	curl
	gcc
	iproute2
	jq
	libb64-0d
	libc6-dev
	libprotobuf-dev
	libvips-tools
	protobuf-compiler
	protobuf-compiler-grpc
	python3-grpcio
	python3-pil
	python3-protobuf
	python3-venv
	qemu-user
)

# Any version of these works.
command -v javac >/dev/null || debian+=(default-jdk-headless)
command -v mvn >/dev/null || debian+=(maven)

die() {
	echo "e2e/setup.sh: $*" >&2
	exit 1
}

as_root=()
if ((EUID)); then
	as_root=(sudo)
fi

missing=()
for package in "${debian[@]}"; do
	state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
	[[ $state == "install ok installed" ]] || missing+=("$package")
done
if ((${#missing[@]})); then
	command -v apt-get >/dev/null ||
		die "this is no Debian system; install what these Debian packages hold, then run the tests with go test: ${missing[*]}"
	((EUID == 0)) || command -v sudo >/dev/null || die "neither root nor sudo; ask for: apt-get install ${missing[*]}"
	"${as_root[@]}" apt-get update -q
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

# unpack PACKAGE PROGRAM... unpacks programs of a Debian package into .bin, if they are not
# there. Packages that would start a service on this machine are not installed.
unpack() {
	local package=$1 program missing=
	shift
	for program; do
		[[ -x ../.bin/${program##*/} ]] || missing=1
	done
	[[ $missing ]] || return 0
	command -v apt-get >/dev/null || die "this is no Debian system; put ${*##*/} into .bin/"
	local unpacked
	unpacked=$(mktemp -d)
	(
		cd "$unpacked"
		apt-get download -q "$package" || {
			"${as_root[@]}" apt-get update -q
			apt-get download -q "$package"
		}
		dpkg-deb -x "$package"_*.deb .
	)
	mkdir -p ../.bin
	for program; do
		cp "$unpacked/$program" ../.bin/
	done
	rm -rf "$unpacked"
}
unpack prometheus usr/bin/prometheus usr/bin/promtool
unpack nginx usr/sbin/nginx
unpack haproxy usr/sbin/haproxy

# Releases of Debian and Ubuntu have different libraries for haproxy.
if ! ../.bin/haproxy -v >/dev/null 2>&1; then
	mapfile -t libraries < <(apt-cache depends haproxy | awk '$1 == "Depends:" && $2 ~ /^lib/ { print $2 }')
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-upgrade --no-install-recommends "${libraries[@]}"
fi

# npm ci first removes node_modules, so the copy of the lock file exists only if
# npm ci has completed.
installed=node_modules/.mien-installed.json
if ! cmp -s package-lock.json "$installed"; then
	command -v npm >/dev/null || die "npm is missing; install Node.js 20 or later"
	npm ci --ignore-scripts --no-audit --no-fund
	cp package-lock.json "$installed"
fi

# The same for Maven: the copy exists only if all jars do.
if ! cmp -s java/pom.xml java/jars/pom.xml; then
	command -v mvn >/dev/null || die "Maven is missing; install it"
	rm -rf java/jars
	mvn --quiet --batch-mode --file java/pom.xml \
		org.apache.maven.plugins:maven-dependency-plugin:3.11.0:copy-dependencies \
		-DoutputDirectory=jars -DincludeScope=runtime
	cp java/pom.xml java/jars/pom.xml
fi

# And for Python packages, each list of which is in an environment of its own.
for name in caddy schemathesis tritonclient; do
	environment=../.bin/$name
	if ! cmp -s "$name.txt" "$environment/installed.txt"; then
		rm -rf "$environment"
		python3 -m venv "$environment"
		"$environment/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$name.txt"
		cp "$name.txt" "$environment/installed.txt"
	fi
done

# perf_analyzer is a program in an old release of tritonclient, for one processor only. Even
# without a GPU, it needs a library of CUDA, and libb64.
analyzer=../.bin/perf_analyzer
if [[ $(uname -m) == x86_64 ]] && ! cmp -s perf_analyzer.txt "$analyzer/installed.txt"; then
	rm -rf "$analyzer"
	unpacked=$(mktemp -d)
	../.bin/tritonclient/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target "$unpacked" --requirement perf_analyzer.txt
	mkdir -p "$analyzer"
	cp "$unpacked/bin/perf_analyzer" "$unpacked"/nvidia/cuda_runtime/lib/libcudart.so.12 "$analyzer"
	rm -rf "$unpacked"
	cp perf_analyzer.txt "$analyzer/installed.txt"
fi
