//go:build commands

// Package commands lists the programs that are built from this module, so that go.mod and go.sum
// cover what they import.
package commands

import (
	_ "sigs.k8s.io/apiserver-network-proxy/cmd/agent"
	_ "sigs.k8s.io/apiserver-network-proxy/cmd/server"
)
