package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the trusted reverse proxies: those whose X-Forwarded-For is believed.
type proxies struct {
	networks []netip.Prefix
	// unix means that all peers on Unix sockets, which have no address, are trusted.
	unix bool
}

// parseProxies parses networks, addresses, and the word unix.
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
		// The address of a peer on a Unix socket is empty or a name.
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
			break // entries that are not addresses cannot be trusted
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

// address parses an address with or without a port. It converts IPv4-mapped IPv6
// addresses to IPv4, and removes zones.
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
