// Package nn runs small convolutional networks, in pure Go with AVX2 assembly.
package nn
