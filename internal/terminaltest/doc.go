// Package terminaltest opens pseudoterminals for tests.
package terminaltest
