package registry

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// Unreleased is the version of a build that is of no release: the least that Terraform
// takes, for which 0.0.0 is no version at all.
const Unreleased = "0.0.1"

const (
	number   = `(?:0|[1-9][0-9]{0,8})`
	semantic = number + `\.` + number + `\.` + number + `(?:-[0-9A-Za-z][0-9A-Za-z.-]{0,62})?`
)

var (
	versionPattern = regexp.MustCompile(`^` + semantic + `$`)
	// describedPattern is what git describe adds to a tag for a tree that is not the tag's.
	describedPattern = regexp.MustCompile(`-[0-9]+-g[0-9a-f]+(-dirty)?$|-dirty$`)
)

// Version returns the version under which a build is offered: its tag's, or Unreleased
// for a build between tags. Terraform picks no pre-release that it was not asked for, so
// that what git says of such a build would be of no use there.
func Version(build string) string {
	v := strings.TrimPrefix(build, "v")
	if describedPattern.MatchString(v) || !versionPattern.MatchString(v) {
		return Unreleased
	}
	return v
}

// compareVersions orders versions, well enough for a list.
func compareVersions(a, b string) int {
	coreA, preA, _ := strings.Cut(a, "-")
	coreB, preB, _ := strings.Cut(b, "-")
	x, y := strings.Split(coreA, "."), strings.Split(coreB, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if c := cmp.Compare(m, n); c != 0 {
			return c
		}
	}
	switch {
	case preA == preB:
		return 0
	case preA == "":
		return 1
	case preB == "":
		return -1
	}
	return cmp.Compare(preA, preB)
}
