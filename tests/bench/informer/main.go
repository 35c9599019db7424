// Beside src/kube/watch_bench.cc: an informer of client-go decodes and caches the same bytes.
//
//	kube_watch_bench --write FILE && informer FILE typed|dynamic
//
// FILE is the body of one watch: ADDED for each Pod, the bookmark that ends the initial events, MODIFIED for
// each Pod. It is mapped, not read, so that it is no part of the heap. Prints a line of numbers:
// events, seconds, live heap bytes, resident bytes.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}

func mapFile(path string) []byte {
	file, err := os.Open(path)
	check(err)
	info, err := file.Stat()
	check(err)
	data, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	check(err)
	return data
}

// An API server with one watch: it yields the text once and then says nothing.
type server struct {
	text    []byte
	started chan time.Time
	used    atomic.Bool
}

type body struct {
	io.Reader
	end context.Context
}

func (b body) Read(into []byte) (int, error) {
	n, err := b.Reader.Read(into)
	if err == io.EOF {
		<-b.end.Done()
	}
	return n, err
}

func (b body) Close() error { return nil }

func (s *server) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	if query.Get("watch") != "true" && query.Get("watch") != "1" {
		return nil, fmt.Errorf("only a watch is served, not %s", request.URL)
	}
	if query.Get("sendInitialEvents") != "true" || s.used.Swap(true) {
		return nil, fmt.Errorf("one watch with initial events is served, not %s", request.URL)
	}
	s.started <- time.Now()
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       body{bytes.NewReader(s.text), request.Context()},
		Request:    request,
	}, nil
}

func residentBytes() int {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		// RssFile counts the mapped text.
		if rest, found := strings.CutPrefix(line, "RssAnon:"); found {
			kilobytes, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
			check(err)
			return kilobytes * 1024
		}
	}
	return 0
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func main() {
	if len(os.Args) != 3 {
		check(fmt.Errorf("usage: informer FILE typed|dynamic"))
	}
	source := &server{text: mapFile(os.Args[1]), started: make(chan time.Time, 1)}
	expected := int64(bytes.Count(source.text, []byte("\n"))) - 1 // Without the bookmark.
	config := &rest.Config{Host: "http://beside", Transport: source}

	var informer cache.SharedIndexInformer
	switch os.Args[2] {
	case "typed":
		client, err := kubernetes.NewForConfig(config)
		check(err)
		informer = informers.NewSharedInformerFactory(client, 0).Core().V1().Pods().Informer()
	case "dynamic":
		client, err := dynamic.NewForConfig(config)
		check(err)
		informer = dynamicinformer.NewDynamicSharedInformerFactory(client, 0).
			ForResource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Informer()
	default:
		check(fmt.Errorf("typed or dynamic, not %q", os.Args[2]))
	}
	// What controllers do to save memory; ours drops them, too.
	check(informer.SetTransform(func(object any) (any, error) {
		accessor, err := meta.Accessor(object)
		if err != nil {
			return nil, err
		}
		accessor.SetManagedFields(nil)
		return object, nil
	}))
	var seen atomic.Int64
	done := make(chan time.Time, 1)
	count := func() {
		if seen.Add(1) == expected {
			done <- time.Now()
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { count() },
		UpdateFunc: func(any, any) { count() },
	})
	check(err)
	before := liveHeap()
	go informer.Run(make(chan struct{}))
	began := <-source.started
	select {
	case end := <-done:
		after := liveHeap()
		fmt.Println(seen.Load(), end.Sub(began).Seconds(), after-before, residentBytes())
		if objects := len(informer.GetStore().ListKeys()); int64(objects)*2 != expected {
			check(fmt.Errorf("%d objects cached", objects))
		}
	case <-time.After(5 * time.Minute):
		check(fmt.Errorf("%d of %d events within five minutes", seen.Load(), expected))
	}
}
