package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are those in front of this server whose word on their callers counts.
type proxies struct {
	networks []netip.Prefix
	// unix: whoever comes by a Unix socket, which has no address.
	unix bool
}

// parseProxies reads networks, single addresses, and the word unix.
func parseProxies(list []string) (p proxies, err error) {
	for _, s := range list {
		if s == "unix" {
			p.unix = true
			continue
		}
		network, err := netip.ParsePrefix(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return p, fmt.Errorf("--trusted-proxy: %q is neither a network, such as 10.0.0.0/8, nor an address, nor unix", s)
			}
			network = netip.PrefixFrom(addr, addr.BitLen())
		}
		p.networks = append(p.networks, network)
	}
	return p, nil
}

func (p proxies) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// caller returns the address that request r comes from: the peer's, or, if that is a
// trusted proxy, the last address in X-Forwarded-For that is not a trusted proxy. Each
// proxy adds its own peer at the end, so addresses further left can be forged. proxy is
// the peer if it is a trusted proxy.
func (p proxies) caller(r *http.Request) (caller, proxy string) {
	caller = r.RemoteAddr
	if peer, ok := address(r.RemoteAddr); ok {
		caller = peer.String()
		if !p.trusts(peer) {
			return caller, ""
		}
	} else {
		// That of a Unix socket's peer is empty, or a name.
		if caller == "" || caller == "@" {
			caller = "unix"
		}
		if !p.unix {
			return caller, ""
		}
	}
	peer := caller
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, ok := address(strings.TrimSpace(hop))
		if !ok {
			break // who wrote this cannot be believed, so the one before is the last that is known
		}
		caller = addr.String()
		if !p.trusts(addr) {
			break
		}
	}
	if caller == peer {
		return caller, ""
	}
	return caller, peer
}

// address reads an address with or without a port. An IPv4 address that came in
// an IPv6 one is that IPv4 address, and a zone is dropped.
func address(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return addr.Unmap().WithZone(""), true
}
