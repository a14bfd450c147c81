package api

import (
	"errors"
	"strings"
)

// ErrUnbalanced is returned by [SplitWords] for a quote that never closes or a
// backslash at the very end.
var ErrUnbalanced = errors.New("split words: quote or backslash left open")

// SplitWords splits s as a POSIX shell splits words: blanks separate, single quotes
// take everything literally, double quotes allow \" \\ \$ and \`, a backslash outside
// quotes takes the next character literally, and one before a newline joins the lines.
// Nothing is expanded, and nothing but quotes and backslashes is special.
func SplitWords(s string) ([]string, error) {
	var (
		words  []string
		word   strings.Builder
		inWord bool
		quote  byte
		escape bool
	)
	for i := range len(s) {
		switch c := s[i]; {
		case escape:
			escape = false
			if c == '\n' {
				continue
			}
			if quote == '"' && strings.IndexByte("\"\\$`", c) < 0 {
				word.WriteByte('\\')
			}
			word.WriteByte(c)
			inWord = true
		case c == '\\' && quote != '\'':
			escape = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case strings.IndexByte(" \t\r\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 || escape {
		return nil, ErrUnbalanced
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
