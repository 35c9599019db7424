//go:build commands

// Package commands lists the programs that are built from this module, so that go.mod and go.sum
// cover what they import.
package commands

import (
	_ "go.universe.tf/metallb/controller"
	_ "go.universe.tf/metallb/speaker"
)
