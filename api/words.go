package api

import (
	"errors"
	"strings"
)

// ErrUnbalanced is returned by [SplitWords] for a quote that never closes or a
// backslash at the very end.
var ErrUnbalanced = errors.New("split words: quote or backslash left open")

// SplitWords splits s as a POSIX shell splits words: blanks separate, single quotes
// take everything literally, double quotes allow \" \\ \$ and \`, and a backslash
// outside quotes takes the next character literally. Nothing is expanded.
func SplitWords(s string) ([]string, error) {
	var (
		words  []string
		word   strings.Builder
		inWord bool
		quote  rune
		escape bool
	)
	for _, r := range s {
		switch {
		case escape:
			if quote == '"' && !strings.ContainsRune("\"\\$`\n", r) {
				word.WriteByte('\\')
			}
			if r != '\n' {
				word.WriteRune(r)
			}
			escape = false
		case r == '\\' && quote != '\'':
			escape, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case strings.ContainsRune(" \t\r\n", r):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
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
