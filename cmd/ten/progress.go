package main

import (
	"fmt"
	"sync"
	"time"
)

const (
	progressPace  = 100 * time.Millisecond
	progressAfter = 2 // ticks before the first drawing: what is quick shows nothing
)

// progress is a line at the bottom of the terminal that says what is waited for. Without
// a terminal on stderr it does nothing.
type progress struct {
	app  *app
	text string
	stop chan struct{}
	done chan struct{}

	mu   sync.Mutex
	note string // what went wrong lately
}

// startProgress shows text with a spinner and the time it takes, until end.
func (a *app) startProgress(text string) *progress {
	p := &progress{app: a, text: cleanText(text), stop: make(chan struct{}), done: make(chan struct{})}
	if !a.screen.err {
		close(p.done)
		return p
	}
	go p.draw()
	return p
}

// end takes the line away.
func (p *progress) end() {
	close(p.stop)
	<-p.done
}

// say adds a remark to the line.
func (p *progress) say(note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = note
}

func (p *progress) draw() {
	defer close(p.done)
	ticks, stopTicks := p.app.tick(progressPace)
	defer stopTicks()
	start := p.app.now()
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	drawn := false
	for n := 1; ; n++ {
		select {
		case <-p.stop:
			if drawn {
				_, _ = fmt.Fprint(p.app.stderr, "\r\x1b[K") // decoration
			}
			return
		case now := <-ticks:
			if n < progressAfter {
				continue
			}
			line := p.text + "  " + ago(now.Sub(start))
			p.mu.Lock()
			if p.note != "" {
				line += "  (" + cleanText(p.note) + ")"
			}
			p.mu.Unlock()
			if w := p.app.screen.width(); w > 3 {
				line = fit(line, w-3) // the spinner before it; the last column would wrap
			}
			_, _ = fmt.Fprintf(p.app.stderr, "\r%c %s\x1b[K", frames[n%len(frames)], line) // decoration
			drawn = true
		}
	}
}
