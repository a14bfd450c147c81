package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/auth"
)

// object is a JSON object; encoding/json writes its keys in order, so that the document
// comes out the same every time.
type object = map[string]any

// apiVersion is the version of the API that the document describes.
const apiVersion = "1"

// openAPI makes the OpenAPI 3.1 document of the table.
func openAPI(rows []endpoint) ([]byte, error) {
	schemas := schemaSet{out: object{}}
	paths := object{}
	for i := range rows {
		e := &rows[i]
		item, ok := paths[e.path].(object)
		if !ok {
			item = object{}
			if params := pathParams(e.path); len(params) > 0 {
				item["parameters"] = params
			}
			paths[e.path] = item
		}
		item[strings.ToLower(e.method)] = operation(e, &schemas)
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "tenement", "version": apiVersion,
			"description": "Every GET also answers HEAD. Every answer carries " + api.HeaderIndex + ", the index of the state it was made from; every error is a problem document.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"paths": paths,
		"components": object{
			"schemas":         schemas.out,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
			"responses": object{"Problem": object{
				"description": "What went wrong",
				"content":     object{api.ProblemType: object{"schema": schemas.of(reflect.TypeFor[api.Problem]())}},
			}},
			"headers": object{"Index": object{
				"description": "The index of the state that the answer was made from", "schema": object{"type": "integer"},
			}},
		},
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI document: %w", err)
	}
	return append(out, '\n'), nil
}

func pathParams(path string) []any {
	about := map[string]object{
		"name":     {"type": "string", "pattern": api.NamePattern},
		"instance": {"type": "string", "description": "service:id", "pattern": strings.TrimSuffix(api.NamePattern, "$") + ":" + strings.TrimPrefix(api.NamePattern, "^")},
		"fleet":    {"type": "string", "description": "service:name", "pattern": strings.TrimSuffix(api.NamePattern, "$") + ":" + strings.TrimPrefix(api.NamePattern, "^")},
		"node":     {"type": "string", "description": "the id or name of a node"},
		"id":       {"type": "string"},
		"version":  {"type": "string", "description": "a version of the provider, such as 1.2.3"},
		"os":       {"type": "string", "description": "an operating system as Go calls it"},
		"arch":     {"type": "string", "description": "a processor architecture as Go calls it"},
		"file":     {"type": "string", "description": "the name of a file that getProviderPackage tells"},
		"host":     {"type": "string", "description": "the host of the provider's source address; any will do"},
		"document": {"type": "string", "description": "VERSION.json"},
	}
	var out []any
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			out = append(out, object{"name": name, "in": "path", "required": true, "schema": about[name]})
		}
	}
	return out
}

func operation(e *endpoint, schemas *schemaSet) object {
	success := object{"description": "Done", "headers": object{api.HeaderIndex: object{"$ref": "#/components/headers/Index"}}}
	status := e.status
	switch {
	case e.resp != nil || e.media != "":
		media, schema := mediaJSON, object{}
		if e.media != "" {
			media = e.media
		}
		if e.resp != nil {
			schema = schemas.of(e.resp)
		}
		success["content"] = object{media: object{"schema": schema}}
		status = max(status, http.StatusOK)
	default:
		status = http.StatusNoContent
	}
	op := object{
		"operationId": e.name, "summary": e.about, "x-access": e.access.String(),
		"responses": object{
			strconv.Itoa(status): success,
			"default":            object{"$ref": "#/components/responses/Problem"},
		},
		"security": []any{object{"token": []any{}}},
	}
	if e.access == auth.AccessPublic {
		op["security"] = []any{}
	}
	if params := describeParams(e.params); len(params) > 0 {
		op["parameters"] = params
	}
	if e.takes != "" {
		op["requestBody"] = object{"required": true, "content": object{e.takes: object{"schema": object{}}}}
	}
	if e.req != nil {
		op["requestBody"] = object{
			"required": !e.bodyOptional,
			"content":  object{mediaJSON: object{"schema": schemas.of(e.req)}},
		}
	}
	return op
}

func describeParams(params []param) []any {
	out := make([]any, len(params))
	for i := range params {
		p := &params[i]
		schema := object{"type": "string"}
		switch p.kind {
		case kindBool:
			schema["type"] = "boolean"
		case kindUint:
			schema["type"], schema["minimum"] = "integer", 0
			if p.max > 0 {
				schema["maximum"] = p.max
			}
		case kindName:
			schema["pattern"] = api.NamePattern
		case kindEnum:
			schema["enum"] = p.enum
		case kindText:
			schema["maxLength"] = maxText
		case kindDuration, kindETag: // any text that their description allows
		}
		in := "query"
		if p.in == inHeader {
			in = "header"
		}
		out[i] = object{"name": p.name, "in": in, "description": p.about, "schema": schema}
	}
	return out
}

// schemaSet collects the schemas of the named types that the document speaks about.
type schemaSet struct{ out object }

// of returns the schema of a type, by reference when it is a named struct.
func (s *schemaSet) of(t reflect.Type) object {
	if schema := scalarSchema(t); schema != nil {
		return schema
	}
	if l, ok := reflect.Zero(t).Interface().(lister); ok {
		return object{"type": "array", "items": s.of(l.elem())}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	default: // a struct: the api has nothing else
		s.add(t)
		return object{"$ref": "#/components/schemas/" + t.Name()}
	}
}

func (s *schemaSet) add(t reflect.Type) {
	if _, ok := s.out[t.Name()]; ok {
		return
	}
	schema := object{"type": "object"}
	s.out[t.Name()] = schema // first, for types that hold themselves
	properties, required := object{}, []string{}
	s.fill(t, properties, &required)
	schema["properties"] = properties
	// Whatever has defaults may leave out everything.
	if _, defaults := reflect.PointerTo(t).MethodByName("SetDefaults"); !defaults && len(required) > 0 {
		schema["required"] = required
	}
}

func (s *schemaSet) fill(t reflect.Type, properties object, required *[]string) {
	for _, f := range fieldsOf(t) {
		if f.embedded {
			s.fill(f.typ, properties, required)
			continue
		}
		schema := s.of(f.typ)
		if f.typ.Kind() == reflect.Pointer && f.typ.Elem().Kind() != reflect.Struct {
			schema["type"] = []string{schema["type"].(string), "null"}
		}
		properties[f.name] = schema
		if !f.optional {
			*required = append(*required, f.name)
		}
	}
}

// scalarSchema returns the schema of a type that is one value; nil for others.
func scalarSchema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[api.Duration]():
		return object{"type": []string{"string", "number"}, "description": "such as 90s or 1h30m; a number is seconds"}
	case reflect.TypeFor[api.Size]():
		return object{"type": []string{"string", "integer"}, "description": "such as 512MiB; a number is bytes"}
	case reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	case reflect.TypeFor[api.Ref]():
		return object{"type": "string", "description": "service:id"}
	}
	switch t.Kind() {
	case reflect.String:
		if values := enumOf(t); values != nil {
			return object{"type": "string", "enum": values}
		}
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return object{"type": "number"}
	default:
		return nil
	}
}

// enumOf lists the values of the closed sets of words. Codes and event types are open:
// they grow, and clients must take what they don't know.
func enumOf(t reflect.Type) any {
	switch t {
	case reflect.TypeFor[api.State]():
		return api.States()
	case reflect.TypeFor[api.Desired]():
		return api.DesiredStates()
	case reflect.TypeFor[api.Isolation]():
		return api.Isolations()
	case reflect.TypeFor[api.RestartPolicy]():
		return api.RestartPolicies()
	case reflect.TypeFor[api.Source]():
		return api.Sources()
	case reflect.TypeFor[api.Role]():
		return []api.Role{api.RoleAdmin, api.RoleTenant}
	case reflect.TypeFor[api.Stream]():
		return []api.Stream{api.Stdout, api.Stderr}
	case reflect.TypeFor[api.Eligibility]():
		return api.Eligibilities()
	case reflect.TypeFor[api.NodeStatus]():
		return []api.NodeStatus{api.NodeUp, api.NodeDown, api.NodeLeft}
	case reflect.TypeFor[api.MemberRole]():
		return []api.MemberRole{api.MemberLeader, api.MemberVoter, api.MemberNonvoter, api.MemberNone}
	case reflect.TypeFor[api.OnDisconnect]():
		return api.OnDisconnects()
	case reflect.TypeFor[api.Strategy]():
		return []api.Strategy{api.StrategySpread, api.StrategyBinpack}
	case reflect.TypeFor[api.SpreadBy]():
		return []api.SpreadBy{api.SpreadByNode, api.SpreadByZone, api.SpreadByRegion}
	case reflect.TypeFor[api.RouteMode]():
		return api.RouteModes()
	case reflect.TypeFor[api.SecretPhase]():
		return api.SecretPhases()
	default:
		return nil
	}
}
