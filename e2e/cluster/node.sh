#!/usr/bin/env bash
# The first process of a node's namespaces: containerd, kubelet and kube-proxy of node $1,
# which has the name $2. cluster.sh runs it.
set -euo pipefail
n=$1 name=$2
folder=$RUN/node$n
address=10.77.0.1$n
mkdir -p "$folder"/{cni,sysctl}
mount --make-rshared /
hostname "$name"
# What containerd and the CNI plugins leave in these folders ends with the node.
for shared in /run /var/log /var/lib; do mount -t tmpfs tmpfs $shared; done

# kubelet sets these for the whole machine. It gets files of this node's own instead.
own() {
	local file=$folder/sysctl/${1//\//_}
	echo "$2" >"$file"
	[[ ! -e /proc/sys/$1 ]] || mount --bind "$file" "/proc/sys/$1"
}
own vm/overcommit_memory 1
own vm/panic_on_oom 0
own kernel/panic 10
own kernel/panic_on_oops 1
own kernel/keys/root_maxkeys 1000000
own kernel/keys/root_maxbytes 25000000

# One path in all hierarchies of cgroup v1, below the memory cgroup of the caller.
group=$(awk -F: '$2 == "memory" { print $3 }' /proc/self/cgroup)
group=${group%/}/$name
for hierarchy in /sys/fs/cgroup/*/; do
	hierarchy=${hierarchy%/}
	[[ -e $hierarchy/cgroup.procs && $hierarchy != */unified && ! -L $hierarchy ]] || continue
	path=$hierarchy
	for part in $(tr / ' ' <<<"$group"); do
		path=$path/$part
		mkdir -p "$path"
		[[ $hierarchy != */cpuset ]] || for file in cpus mems; do cat "$hierarchy/cpuset.$file" >"$path/cpuset.$file"; done
	done
	for part in pods system; do
		mkdir -p "$path/$part"
		[[ $hierarchy != */cpuset ]] || for file in cpus mems; do cat "$hierarchy/cpuset.$file" >"$path/$part/cpuset.$file"; done
	done
	echo $$ >"$path/system/cgroup.procs"
done

cat >"$folder/cni/10-bridge.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$folder/ipam", "ranges": [[{"subnet": "10.88.$n.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
END
# No process here may lower its oom_score_adj, hence restrict_oom_score_adj.
cat >"$folder/containerd.toml" <<END
version = 2
root = "$folder/containerd"
state = "$folder/containerd-state"
[grpc]
  address = "$folder/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$folder/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "mien.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$folder/cni"
END
cat >"$folder/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: $group/pods
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://$folder/containerd.sock
address: $address
resolvConf: ""
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 1m
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
podLogsDir: $folder/pod-logs
END
cat >"$folder/proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $KUBECONFIG}
mode: iptables
clusterCIDR: 10.88.0.0/16
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
bindAddress: $address
hostnameOverride: $name
END

containerd -c "$folder/containerd.toml" >"$folder/containerd.log" 2>&1 &
ctr=(ctr -a "$folder/containerd.sock" -n k8s.io)
for i in $(seq 300); do
	"${ctr[@]}" version >/dev/null 2>&1 && break
	((i < 300)) || exit 1
	sleep 0.2
done
for archive in "$IMAGES"/*.tar; do "${ctr[@]}" images import "$archive"; done
"$BIN/kubelet" --config="$folder/kubelet.yaml" --kubeconfig="$KUBECONFIG" --root-dir="$folder/kubelet" --cert-dir="$folder/kubelet-pki" \
	--hostname-override="$name" --node-ip="$address" >"$folder/kubelet.log" 2>&1 &
"$BIN/kube-proxy" --config="$folder/proxy.yaml" >"$folder/proxy.log" 2>&1 &
trap 'exit 0' TERM
wait
