package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// column is one column of a table and how it gives way when space is short.
type column struct {
	title string
	right bool // numbers
	// min is how narrow the column may be cut; 0 means never.
	min int
	// drop says how early the column is left out: the highest first, 0 never.
	drop int
	// optional columns are left out when all their cells are empty.
	optional bool
	color    func(cell string) string // the cell's colour, see style
}

// table is rows of text under titles.
type table struct {
	columns []column
	rows    [][]string // as long as columns
}

const gap = "  "

// write prints the table in at most width cells a line (0: any), so that no line wraps:
// columns are cut first, as far as they allow, then left out, then cut below what they allow.
func (t *table) write(w io.Writer, width int, colors bool) error {
	for _, row := range t.rows {
		for i := range row {
			row[i] = cleanText(row[i])
		}
	}
	show := t.choose(width)
	widths := t.widths(show)
	if width > 0 {
		shrink(widths, width, func(i int) int { return t.floor(show[i]) })
		shrink(widths, width, func(int) int { return 1 })
	}
	var b strings.Builder
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
	}
	t.line(&b, show, widths, titles, colors, func(int, string) string { return styleDim })
	for _, row := range t.rows {
		t.line(&b, show, widths, row, colors, func(i int, cell string) string {
			if f := t.columns[i].color; f != nil {
				return f(cell)
			}
			return ""
		})
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// choose returns the columns to show: not those without content, and of the others as
// many as fit when each is as narrow as it may be.
func (t *table) choose(width int) []int {
	var show []int
	for i, c := range t.columns {
		empty := !slices.ContainsFunc(t.rows, func(row []string) bool { return row[i] != "" })
		if !c.optional || !empty {
			show = append(show, i)
		}
	}
	for width > 0 {
		least, worst := len(gap)*(len(show)-1), -1
		for at, i := range show {
			least += min(t.floor(i), t.width(i))
			if c := t.columns[i]; c.drop > 0 && (worst < 0 || c.drop > t.columns[show[worst]].drop) {
				worst = at
			}
		}
		if least <= width || worst < 0 {
			break
		}
		show = slices.Delete(show, worst, worst+1)
	}
	return show
}

func (t *table) width(i int) int {
	n := cells(t.columns[i].title)
	for _, row := range t.rows {
		n = max(n, cells(row[i]))
	}
	return n
}

func (t *table) widths(show []int) []int {
	widths := make([]int, len(show))
	for at, i := range show {
		widths[at] = t.width(i)
	}
	return widths
}

// floor is the least width of a column.
func (t *table) floor(i int) int {
	if m := t.columns[i].min; m > 0 {
		return m
	}
	return t.width(i)
}

// shrink takes cells from the widest column until the line fits or no column may give.
func shrink(widths []int, width int, floor func(at int) int) {
	total := len(gap) * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	for total > width {
		widest := -1
		for at, n := range widths {
			if n > floor(at) && (widest < 0 || n > widths[widest]) {
				widest = at
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		total--
	}
}

func (t *table) line(b *strings.Builder, show, widths []int, row []string, colors bool, color func(i int, cell string) string) {
	blanks := 0 // owed, so that no line ends in blanks
	for at, i := range show {
		cell := fit(row[i], widths[at])
		pad := widths[at] - cells(cell)
		if t.columns[i].right {
			blanks += pad
			pad = 0
		}
		if cell != "" {
			b.WriteString(strings.Repeat(" ", blanks))
			b.WriteString(paint(cell, color(i, row[i]), colors))
			blanks = 0
		}
		blanks += pad + len(gap)
	}
	b.WriteByte('\n')
}

// The styles, as the parameters of a terminal's SGR sequence.
const (
	styleDim    = "2"
	styleBold   = "1"
	styleRed    = "31"
	styleGreen  = "32"
	styleYellow = "33"
	styleCyan   = "36"
)

// paint wraps text in a style; "" is none.
func paint(text, style string, colors bool) string {
	if !colors || style == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
