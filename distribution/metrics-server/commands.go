//go:build commands

// Package commands lists the programs that are built from this module, so that go.mod and go.sum
// cover what they import.
package commands

import (
	_ "sigs.k8s.io/metrics-server/cmd/metrics-server"
)
