//go:build commands

// Package commands lists the programs that are built from this module, so that go.mod and go.sum
// cover what they import.
package commands

import _ "k8s.io/kubernetes/test/images/agnhost"
