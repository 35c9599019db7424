//go:build commands

// Package commands lists the programs that are built from this module, so that go.mod and go.sum
// cover what they import.
package commands

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
)
