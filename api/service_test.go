package api_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

func secretive() *api.Service {
	return &api.Service{
		Name: "web", Command: "app",
		Env: map[string]string{"PLAIN": "1", "PASSWORD": "sesame", "EMPTY": ""}, SecretEnv: []string{"PASSWORD", "EMPTY"},
	}
}

// The names are told, the values are not, and the service itself stays as it is.
func TestRedacted(t *testing.T) {
	s := secretive()
	r := s.Redacted()
	if !maps.Equal(r.Env, map[string]string{"PLAIN": "1"}) || !slices.Equal(r.SecretEnv, s.SecretEnv) || r.Command != s.Command {
		t.Errorf("got %+v", r)
	}
	if !s.Equal(secretive()) {
		t.Errorf("it became %+v", s)
	}
	plain := &api.Service{Env: map[string]string{"PLAIN": "1"}}
	if plain.Redacted() != plain {
		t.Error("a copy of a service without secrets")
	}
}

func TestKeepSecrets(t *testing.T) {
	old := secretive()
	s := old.Redacted().Clone()
	if s.KeepSecrets(old); !s.Equal(old) {
		t.Errorf("what was shown came back as %+v", s)
	}
	s = old.Redacted().Clone()
	s.Env["PASSWORD"], s.SecretEnv = "other", []string{"PASSWORD", "NEW"}
	if s.KeepSecrets(old); !maps.Equal(s.Env, map[string]string{"PLAIN": "1", "PASSWORD": "other"}) {
		t.Errorf("a new value, one name less, and one of which there is no value: %+v", s)
	}
	s = &api.Service{SecretEnv: []string{"PASSWORD"}}
	if s.KeepSecrets(old); !maps.Equal(s.Env, map[string]string{"PASSWORD": "sesame"}) {
		t.Errorf("without env: %+v", s)
	}
	s = &api.Service{Env: map[string]string{}}
	if s.KeepSecrets(old); len(s.Env) > 0 {
		t.Errorf("what is not named any more is kept: %+v", s)
	}
}

// One set of names has one form, and the caller's list is left alone.
func TestSecretEnvDefaults(t *testing.T) {
	names := []string{"B", "A", "B"}
	s := &api.Service{Command: "app", SecretEnv: names}
	s.SetDefaults()
	if !slices.Equal(s.SecretEnv, []string{"A", "B"}) || !slices.Equal(names, []string{"B", "A", "B"}) {
		t.Errorf("got %q of %q", s.SecretEnv, names)
	}
	s.SecretEnv = []string{}
	if s.SetDefaults(); s.SecretEnv != nil {
		t.Errorf("got %q of none", s.SecretEnv)
	}
}
