// Package version has the version of the release. CHANGELOG.md describes each one.
package version

// Number is the version of the server and of its client.
const Number = "0.1.0"
