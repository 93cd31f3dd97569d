#!/usr/bin/env bash
# Installs what the cluster test needs: Debian packages, and in the folder that it prints,
# below ~/.cache, Kubernetes and its add-ons, which are built once for each of their versions
# (half an hour on two cores).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

debian=(
	buildah
	busybox-static
	conntrack
	containerd
	containernetworking-plugins
	etcd-server
	iproute2
	iptables
	ipset
	jq
	openssl
	procps
	python3
	runc
	skopeo
	strace
	systemd
)

missing=()
for package in "${debian[@]}"; do
	state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
	[[ $state == "install ok installed" ]] || missing+=("$package")
done
if ((${#missing[@]})); then
	# No package may start a service on this machine.
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e $policy ]]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		trap 'rm -f "$policy"' EXIT
	fi
	apt-get update -q >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
fi

version=$(sed -nE 's/^require k8s.io\/kubernetes (v.*)/\1/p' tools/kubernetes/go.mod)
key=$(cat tools/kubernetes/{go.mod,go.sum,addons.txt,main.go,pause/main.go} | sha256sum | cut -c1-12)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/mien-test/kubernetes-$version-$key
echo "$folder"
[[ ! -e $folder/complete ]] || exit 0
mkdir -p "$folder/crds"
export CGO_ENABLED=0

# source_of MODULE downloads an add-on of addons.txt, and prints its folder.
source_of() {
	local pinned module
	read -ra pinned < <(grep "^$1 " tools/kubernetes/addons.txt)
	module=$(cd / && GOFLAGS=-mod=mod go mod download -json "$1@${pinned[1]}")
	if [[ $(jq -r .Sum <<<"$module") != "${pinned[2]}" ]]; then
		echo "e2e/cluster/setup.sh: $1 ${pinned[1]} has the checksum $(jq -r .Sum <<<"$module"), not that in tools/kubernetes/addons.txt" >&2
		return 1
	fi
	jq -r .Dir <<<"$module"
}

kserve=$(source_of github.com/kserve/kserve)
cp "$kserve"/config/crd/full/*serving.kserve.io*.yaml "$kserve"/config/crd/full/clusterstoragecontainer/*serving.kserve.io*.yaml "$folder/crds/"
cp "$kserve/config/configmap/inferenceservice.yaml" "$folder/kserve-config.yaml"
operator=$(source_of github.com/prometheus-operator/prometheus-operator)
cp "$operator/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" "$operator/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml" "$folder/crds/"
metrics_server=$(source_of sigs.k8s.io/metrics-server)

echo "building Kubernetes $version and its add-ons into $folder, which takes half an hour" >&2
set -- -trimpath -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
go build -C tools/kubernetes "$@" -o "$folder/kubernetes" .
go build -C tools/kubernetes "$@" -o "$folder/pause" ./pause
# Add-ons are built with the versions that their own modules pin.
go build -C "$metrics_server" "$@" -mod=readonly -o "$folder/metrics-server" ./cmd/metrics-server
go build -C "$kserve" "$@" -mod=readonly -o "$folder/kserve-manager" ./cmd/manager
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
	ln -sf kubernetes "$folder/$name"
done
touch "$folder/complete"
