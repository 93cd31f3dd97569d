package main

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestCaller(t *testing.T) {
	behind := []string{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32"}
	for _, c := range []struct {
		name      string
		trusted   []string
		remote    string
		forwarded []string
		caller    string
		proxy     string
	}{
		{name: "no proxy", remote: "203.0.113.5:1234", caller: "203.0.113.5"},
		{name: "nobody is trusted", remote: "10.0.0.1:1234", forwarded: []string{"198.51.100.1"}, caller: "10.0.0.1"},
		{name: "a stranger pretends", trusted: behind, remote: "203.0.113.5:1234", forwarded: []string{"198.51.100.1"}, caller: "203.0.113.5"},
		{name: "one proxy", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"198.51.100.1"}, caller: "198.51.100.1", proxy: "10.0.0.1"},
		{name: "the caller pretends", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"1.2.3.4, 198.51.100.1"}, caller: "198.51.100.1", proxy: "10.0.0.1"},
		{name: "the caller pretends to be a proxy", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"1.2.3.4, 10.9.9.9, 198.51.100.1"}, caller: "198.51.100.1", proxy: "10.0.0.1"},
		{name: "two proxies", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"198.51.100.1, 192.0.2.7"}, caller: "198.51.100.1", proxy: "10.0.0.1"},
		{name: "two headers", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"1.2.3.4,198.51.100.1", "192.0.2.7"}, caller: "198.51.100.1", proxy: "10.0.0.1"},
		{name: "all are proxies", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"10.0.0.3, 10.0.0.2"}, caller: "10.0.0.3", proxy: "10.0.0.1"},
		{name: "no header", trusted: behind, remote: "10.0.0.1:1234", caller: "10.0.0.1"},
		{name: "rubbish", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"198.51.100.1, <script>"}, caller: "10.0.0.1"},
		{name: "rubbish before a proxy", trusted: behind, remote: "10.0.0.1:1234", forwarded: []string{"unknown, 192.0.2.7"}, caller: "192.0.2.7", proxy: "10.0.0.1"},
		{name: "with ports", trusted: behind, remote: "[2001:db8::1]:1234", forwarded: []string{"[2001:dba::9]:555"}, caller: "2001:dba::9", proxy: "2001:db8::1"},
		{name: "in brackets", trusted: behind, remote: "[2001:db8::1]:1234", forwarded: []string{"[2001:dba::9]"}, caller: "2001:dba::9", proxy: "2001:db8::1"},
		{name: "IPv4 in IPv6", trusted: behind, remote: "[::ffff:10.0.0.1]:1234", forwarded: []string{"::ffff:198.51.100.1"}, caller: "198.51.100.1", proxy: "10.0.0.1"},
		{name: "socket", remote: "@", forwarded: []string{"198.51.100.1"}, caller: "unix"},
		{name: "trusted socket", trusted: []string{"unix"}, remote: "@", forwarded: []string{"198.51.100.1"}, caller: "198.51.100.1", proxy: "unix"},
		{name: "trusted socket, nothing said", trusted: []string{"unix"}, remote: "", caller: "unix"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := parseProxies(c.trusted)
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded}}
			if caller, proxy := p.caller(r); caller != c.caller || proxy != c.proxy {
				t.Errorf("%q by %q, want %q by %q", caller, proxy, c.caller, c.proxy)
			}
		})
	}
}

// FuzzCaller checks that for any header, the caller is an address, and that without
// trust it is the peer.
func FuzzCaller(f *testing.F) {
	f.Add("198.51.100.1, 10.0.0.2", "10.0.0.1:80")
	f.Add("[2001:db8::1%eth0]:80,::ffff:10.0.0.1", "[::1]:80")
	f.Fuzz(func(t *testing.T, forwarded, remote string) {
		peer, ok := address(remote)
		if !ok {
			t.Skip()
		}
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		if caller, proxy := (proxies{}).caller(r); caller != peer.String() || proxy != "" {
			t.Errorf("nobody is trusted: %q by %q", caller, proxy)
		}
		p := proxies{networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
		caller, _ := p.caller(r)
		if _, err := netip.ParseAddr(caller); err != nil || strings.ContainsAny(caller, "%, ") {
			t.Errorf("%q is no address", caller)
		}
	})
}
