//go:build !embed_yunet

package main

// The network of YuNet and its license, which "make build EMBED=yunet" embeds.
var (
	yunetWeights []byte
	yunetLicense string
)
