// SPDX-License-Identifier: MIT

// The race's runner for Go's golang.org/x/time/rate; see ../race.hpp for what it reads and answers.
package main

import (
	"bufio"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

type worker struct {
	attempts, granted uint64
	latencies         [57*128 + 256]uint64
}

func (w *worker) add(v uint64) {
	shift := uint(0)
	if v >= 256 {
		shift = uint(bits.Len64(v)) - 8
	}
	w.latencies[shift<<7+uint(v>>shift)]++
}

func untimed(l *rate.Limiter, stop *uint32, w *worker) {
	var attempts, granted uint64
	for atomic.LoadUint32(stop) == 0 {
		for i := 0; i < 16; i++ {
			if l.Allow() {
				granted++
			}
		}
		attempts += 16
	}
	w.attempts, w.granted = attempts, granted
}

func timed(l *rate.Limiter, stop *uint32, w *worker) {
	for atomic.LoadUint32(stop) == 0 {
		for i := 0; i < 16; i++ {
			before := ticks()
			granted := l.Allow()
			w.add(ticks() - before)
			if granted {
				w.granted++
			}
		}
		w.attempts += 16
	}
}

func timerAlone(_ *rate.Limiter, stop *uint32, w *worker) {
	for atomic.LoadUint32(stop) == 0 {
		for i := 0; i < 16; i++ {
			before := ticks()
			w.add(ticks() - before)
		}
		w.attempts += 16
		w.granted += 16
	}
}

func run(name, answer string, threads int, kind string, ms int, out *bufio.Writer) {
	l := rate.NewLimiter(1e9, 1e9)
	if answer == "denied" {
		l = rate.NewLimiter(rate.Every(time.Minute), 1)
		l.Allow()
	}
	attempt := untimed
	if name == "timer" {
		attempt = timerAlone
	} else if kind == "latency" {
		attempt = timed
	}
	runtime.GC() // so that none falls into the run, which allocates nothing
	workers := make([]*worker, threads)
	var ready, done sync.WaitGroup
	goAhead := make(chan struct{})
	stop := new([32]uint32) // a cache line of its own
	for i := range workers {
		workers[i] = new(worker)
		ready.Add(1)
		done.Add(1)
		go func(w *worker) {
			defer done.Done()
			ready.Done()
			<-goAhead
			attempt(l, &stop[16], w)
		}(workers[i])
	}
	ready.Wait()
	counted := ticks()
	begin := time.Now()
	close(goAhead)
	time.Sleep(time.Duration(ms) * time.Millisecond)
	atomic.StoreUint32(&stop[16], 1)
	ns := float64(time.Since(begin))
	counted = ticks() - counted
	done.Wait()

	all := new(worker)
	for _, w := range workers {
		all.attempts += w.attempts
		all.granted += w.granted
		for i, n := range w.latencies {
			all.latencies[i] += n
		}
	}
	surprises := all.granted
	if answer == "granted" {
		surprises = all.attempts - all.granted
	}
	fmt.Fprintf(out, "%d %d %.0f", all.attempts, surprises, ns)
	for i, n := range all.latencies {
		if n != 0 {
			shift := 0
			if i >= 256 {
				shift = i/128 - 1
			}
			fmt.Fprintf(out, " %.2f:%d", float64(uint64(i-shift*128)<<uint(shift))*ns/float64(counted), n)
		}
	}
	fmt.Fprintln(out)
	out.Flush()
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var name, answer, kind string
		var threads, ms int
		if _, err := fmt.Fscan(in, &name, &answer, &threads, &kind, &ms); err != nil {
			return
		}
		run(name, answer, threads, kind, ms, out)
	}
}
