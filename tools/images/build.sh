#!/usr/bin/env bash
# Builds the container images into dist/images (or the folder in OUT), without a container
# engine: OCI archives, and for each image a list of what is in it (an SBOM in CycloneDX's
# format). "make images" runs it. PREFIX is put before the names of the images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

die() {
	echo "tools/images/build.sh: $*" >&2
	exit 1
}

to=$(realpath -m "${OUT:-dist/images}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$to"
mkdir -p "$to" "$work"/{amd64,arm64,base}
native=$(go env GOHOSTARCH)

# The flags of "make release". Without the commit, which a copy of the source does not have.
export GOFLAGS=-buildvcs=false
build() { # GOARCH FILE PACKAGE [FLAG...]
	local architecture=$1 file=$2 package=$3
	shift 3
	GOOS=linux GOARCH=$architecture go build -trimpath -ldflags='-s -w' "$@" -o "$work/$architecture/$file" "$package"
}
go run ./internal/embed yunet cmd/server/embedded/yunet.onnx
for architecture in amd64 arm64; do
	export CGO_ENABLED=0
	build "$architecture" mien ./cmd/server
	build "$architecture" mien-yunet ./cmd/server -tags embed_yunet
	build "$architecture" mien-client ./cmd/client
done

# The third needs the C library of the system that builds it, and so contains that system's
# packages: what ONNX Runtime links to.
CGO_ENABLED=1 build "$native" mien-onnx ./cmd/server
cp .bin/libonnxruntime.so.1 "$work/" || die '.bin/libonnxruntime.so.1 is missing: run "make onnxruntime"'
# The fourth package has the licenses of the second and third.
licenses=$(dpkg-query -W -f '${Depends}' libgcc-s1 | grep -o 'gcc-[0-9]*-base' || true)
(cd "$work/base" && apt-get download -q -o APT::Sandbox::User=root libc6 libstdc++6 libgcc-s1 "$licenses" >/dev/null) ||
	die "the packages of mien-onnx cannot be downloaded; it is built on a Debian system after apt-get update"

# cyclonedx-gomod lists the modules in a binary. Go's own library and, for the third image,
# the packages and ONNX Runtime are added.
cyclonedx=$work/cyclonedx-gomod
(cd tools/images && go build -o "$cyclonedx" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod)
version=$("$work/$native/mien" --version | sed -nE 's/^mien ([^,]+),.*/\1/p')
components() { # each line: name, version, purl
	jq -R -s 'split("\n") | map(select(. != "") | split(" ") | {type: "library", name: .[0], version: .[1], purl: .[2], "bom-ref": .[2]})'
}
go=$(go version "$work/$native/mien" | sed -nE 's/.*: go([0-9.]+).*/\1/p')
onnxruntime=$(jq -r '.dependencies["onnxruntime-node"]' tools/onnxruntime/package.json)
for image in mien mien-yunet mien-onnx mien-client; do
	"$cyclonedx" bin -json -noserial -notimestamp -version "$version" -output "$work/modules.json" "$work/$native/$image" 2>"$work/log" ||
		die "$(cat "$work/log")"
	{
		echo "std $go pkg:golang/std@$go"
		if [[ $image == mien-onnx ]]; then
			echo "onnxruntime-node $onnxruntime pkg:npm/onnxruntime-node@$onnxruntime"
			for deb in "$work"/base/*.deb; do
				dpkg-deb --showformat '${Package} ${Version} pkg:deb/debian/${Package}@${Version}?arch=${Architecture}\n' -W "$deb"
			done
		fi
	} | components >"$work/more.json"
	jq --slurpfile more "$work/more.json" '.components += $more[0]' "$work/modules.json" >"$to/$image.cdx.json"
done

created=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
revision=$(git rev-parse HEAD 2>/dev/null || true)
(cd tools/images && go run . -from "$work" -to "$to" -prefix "${PREFIX:-}" -version "$version" -revision "$revision" -created "$created")
