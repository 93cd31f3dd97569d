#!/usr/bin/env bash
# A Kubernetes cluster on this machine: the control plane and two nodes, each in namespaces of
# its own, with addresses that exist only there. usage, all with the folder of a run in RUN:
#
#	cluster.sh up        starts it; BIN is the folder of setup.sh, IMAGES has archives to import
#	cluster.sh kill N    ends all processes of node N at once, as a loss of power does
#	cluster.sh cut N     takes node N's link away, and nobody is told
#	cluster.sh join N    undoes both
#	cluster.sh addon NAME COMMAND...  runs a program beside the control plane
#	cluster.sh down      ends all that was started
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
: "${RUN:?is the folder of the run}"
control=mien-control
export KUBECONFIG=$RUN/kubeconfig
nodes="1 2"
netns() { echo "mien-node$1"; }

network() {
	local n m
	ip netns add $control
	ip -n $control link set lo up
	ip -n $control link add br0 type bridge
	ip -n $control addr add 10.77.0.1/24 dev br0
	ip -n $control link set br0 up
	for n in $nodes; do
		ip netns add "$(netns "$n")"
		ip -n "$(netns "$n")" link set lo up
		ip link add eth0 netns "$(netns "$n")" type veth peer name "node$n" netns $control
		ip -n $control link set "node$n" master br0 up
		ip -n "$(netns "$n")" addr add "10.77.0.1$n/24" dev eth0
		ip -n "$(netns "$n")" link set eth0 up
		ip -n "$(netns "$n")" route add default via 10.77.0.1
		ip -n $control route add "10.88.$n.0/24" via "10.77.0.1$n"
		nsenter --net="/run/netns/$(netns "$n")" sysctl -qw net.ipv4.ip_forward=1
	done
	for n in $nodes; do
		for m in $nodes; do
			[[ $n == "$m" ]] || ip -n "$(netns "$n")" route add "10.88.$m.0/24" via "10.77.0.1$m"
		done
	done
}

certificates() {
	mkdir -p "$RUN/pki"
	cd "$RUN/pki"
	{
		openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2
		openssl genrsa -out accounts.key 2048
		openssl rsa -in accounts.key -pubout -out accounts.pub
		local name
		for name in apiserver front-proxy webhook; do
			openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
			openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out $name.crt \
				-extfile <(echo "subjectAltName=IP:10.77.0.1,IP:10.96.0.1,IP:127.0.0.1")
		done
	} 2>openssl.log
	echo 'test,admin,admin,"system:masters"' >tokens.csv
	cat >"$KUBECONFIG" <<-END
		apiVersion: v1
		kind: Config
		clusters: [{name: test, cluster: {server: "https://10.77.0.1:6443", certificate-authority: $RUN/pki/ca.crt}}]
		users: [{name: test, user: {token: test}}]
		contexts: [{name: test, context: {cluster: test, user: test}}]
		current-context: test
	END
	cd - >/dev/null
}

# start NAME COMMAND... runs a command of the control plane until down.
start() {
	local name=$1
	shift
	setsid nsenter --net=/run/netns/$control "$@" >"$RUN/$name.log" 2>&1 </dev/null &
	echo $! >>"$RUN/pids"
}

control_plane() {
	local pki=$RUN/pki
	start etcd etcd --data-dir "$RUN/etcd" --unsafe-no-fsync \
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
		--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
	start apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address=10.77.0.1 --advertise-address=10.77.0.1 --secure-port=6443 \
		--tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
		--token-auth-file="$pki/tokens.csv" --authorization-mode=RBAC --service-cluster-ip-range=10.96.0.0/16 \
		--service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/accounts.pub" --service-account-signing-key-file="$pki/accounts.key" \
		--requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy --requestheader-username-headers=X-Remote-User \
		--requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
		--proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" --enable-aggregator-routing=true \
		--kubelet-preferred-address-types=InternalIP
	local i
	for i in $(seq 240); do
		nsenter --net=/run/netns/$control "$BIN/kubectl" get --raw /readyz >/dev/null 2>&1 && break
		((i < 240)) || { tail -20 "$RUN/apiserver.log" >&2 && exit 1; }
		sleep 0.5
	done
	# Short times, so that the tests need not wait: a node that is silent for 16 s is lost.
	start controllers "$BIN/kube-controller-manager" --kubeconfig="$KUBECONFIG" --authentication-kubeconfig="$KUBECONFIG" --authorization-kubeconfig="$KUBECONFIG" \
		--service-account-private-key-file="$pki/accounts.key" --root-ca-file="$pki/ca.crt" --leader-elect=false --bind-address=127.0.0.1 \
		--node-monitor-period=2s --node-monitor-grace-period=16s --horizontal-pod-autoscaler-sync-period=5s \
		--horizontal-pod-autoscaler-initial-readiness-delay=5s --horizontal-pod-autoscaler-cpu-initialization-period=10s
	start scheduler "$BIN/kube-scheduler" --kubeconfig="$KUBECONFIG" --leader-elect=false --bind-address=127.0.0.1
}

node() {
	local n=$1
	setsid nsenter --net="/run/netns/$(netns "$n")" unshare --mount --propagation private --uts --ipc --pid --fork --kill-child --mount-proc \
		bash "$here/node.sh" "$n" "$(netns "$n")" >"$RUN/node$n.log" 2>&1 </dev/null &
	echo $! >"$RUN/node$n.pid"
}

# forget PID... ends processes, and waits until they have ended.
forget() {
	local signal pid
	for signal in TERM KILL; do
		for pid; do kill -$signal "$pid" 2>/dev/null || true; done
		for _ in $(seq 50); do
			local left=
			for pid; do [[ ! -d /proc/$pid ]] || left=1; done
			[[ $left ]] || return 0
			sleep 0.1
		done
	done
}

case ${1:-} in
up)
	: "${BIN:?is the folder of setup.sh}" "${IMAGES:?is the folder of the images}"
	export BIN IMAGES RUN
	for n in control node1 node2; do
		[[ ! -e /run/netns/mien-$n ]] || { echo "cluster.sh: the namespace mien-$n exists: another cluster runs, or was not ended with \"down\"" >&2 && exit 1; }
	done
	mkdir -p "$RUN"
	: >"$RUN/pids"
	network
	certificates
	control_plane
	for n in $nodes; do node "$n"; done
	;;
addon) start "${@:2}" ;;
kill) kill -9 "$(cat "$RUN/node$2.pid")" ;;
cut) ip -n $control link set "node$2" down ;;
join)
	ip -n $control link set "node$2" up
	if [[ ! -d /proc/$(cat "$RUN/node$2.pid") ]]; then
		ip -n "$(netns "$2")" link del cni0 2>/dev/null || true
		rm -rf "$RUN/node$2"
		node "$2"
	fi
	;;
down)
	[[ ! -e $RUN/pids ]] || forget $(cat "$RUN"/node*.pid 2>/dev/null) $(tac "$RUN/pids")
	# The kernel takes a moment to empty the cgroups of processes that have ended.
	for _ in $(seq 50); do
		find /sys/fs/cgroup/*/ -depth -type d -path '*/mien-node[0-9]*' -exec rmdir {} + 2>/dev/null || true
		[[ $(find /sys/fs/cgroup/*/ -type d -path '*/mien-node[0-9]*' 2>/dev/null) ]] || break
		sleep 0.1
	done
	# Their parents have processes in some of the hierarchies, and are empty in others.
	group=$(awk -F: '$2 == "memory" { print $3 }' /proc/self/cgroup)
	for hierarchy in /sys/fs/cgroup/*/; do
		[[ $group == / ]] || (cd "$hierarchy" && rmdir -p "${group#/}" 2>/dev/null) || true
	done
	for n in $control $(for n in $nodes; do netns "$n"; done); do
		[[ ! -e /run/netns/$n ]] || ip netns del "$n"
	done
	;;
*) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
