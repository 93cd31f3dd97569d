#!/usr/bin/env bash
# Tests the container images, and deploy/ on a cluster on this machine. "make cluster-test"
# runs it. Where it cannot run it says why, and fails only if CI is set. Arguments are for
# the test of the cluster, such as -test.run 'TestCluster/roll'. With KEEP=1 the cluster is
# not ended, and the last line says how to use it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

refuse() {
	echo "cluster-test cannot run: $*" >&2
	[[ -z ${CI:-} ]] || exit 1
	exit 0
}
((EUID == 0)) || refuse "it needs root, for namespaces and mounts"
command -v apt-get >/dev/null || refuse "it needs Debian's packages of containerd, etcd and others"
[[ -d /sys/fs/cgroup/memory ]] || refuse "it needs cgroup v1, which is all that it was written for"
unshare --net --mount --uts --ipc --pid --fork true 2>/dev/null || refuse "it may not make namespaces here"

BIN=$(e2e/cluster/setup.sh)
work=$(mktemp -d)
export BIN RUN=$work/run IMAGES=$work/images
processes=()
clean() {
	local code=$?
	trap - EXIT
	if [[ ${KEEP:-} ]]; then
		echo "export RUN=$RUN KUBECONFIG=$RUN/kubeconfig; nsenter --net=/run/netns/mien-control $BIN/kubectl get pods; end it with e2e/cluster/cluster.sh down" >&2
		exit $code
	fi
	((code == 0)) || tail -n 3 "$RUN"/*.log >&2 2>/dev/null || true
	e2e/cluster/cluster.sh down || true
	((${#processes[@]} == 0)) || kill "${processes[@]}" 2>/dev/null || true
	rm -rf "$work"
	exit $code
}
trap clean EXIT
trap 'exit 130' INT TERM

# The build of the images downloads YuNet from its publisher. A mirror has it too.
models=../shared/models/yunet_n_dynamic.onnx
if [[ -e $models && -z ${MIEN_MODEL_MIRROR:-} ]]; then
	mkdir -p "$work/mirror/yunet"
	cp $models "$work/mirror/yunet/"
	python3 -u -m http.server --bind 127.0.0.1 --directory "$work/mirror" 0 >"$work/mirror.log" 2>&1 &
	processes+=($!)
	for _ in $(seq 100); do
		port=$(sed -nE 's/.* port ([0-9]+) .*/\1/p' "$work/mirror.log")
		[[ -z $port ]] || break
		sleep 0.1
	done
	export MIEN_MODEL_MIRROR=http://127.0.0.1:$port
fi
export PREFIX=mien.test/
for folder in "$IMAGES" "$work/again"; do OUT=$folder tools/images/build.sh; done
pause=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/storage-run")
container=$("${pause[@]}" from scratch)
"${pause[@]}" copy --quiet "$container" "$BIN/pause" /pause >/dev/null
"${pause[@]}" config --entrypoint '["/pause"]' "$container"
"${pause[@]}" commit --quiet --rm "$container" "oci-archive:$IMAGES/pause.tar:mien.test/pause:1" >/dev/null

go test -C e2e/cluster -c -o "$work/cluster.test" .
# The tests that need no cluster.
(cd e2e/cluster && "$work/cluster.test" -test.v -test.run '^Test(Images|Dockerfile|Compose|Systemd)$' -images "$IMAGES" -images-again "$work/again")
e2e/cluster/cluster.sh up
export KUBECONFIG=$RUN/kubeconfig
(cd e2e/cluster && PATH=$BIN:$PATH nsenter --net=/run/netns/mien-control "$work/cluster.test" -test.v -test.timeout 30m -test.run '^TestCluster$' -images "$IMAGES" -cluster "$RUN" "$@")
