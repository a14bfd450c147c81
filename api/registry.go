package api

// The answers of Terraform's provider registry and network mirror protocols. Their form
// is Terraform's, so that it does not follow the customs of the rest.

// Where they are, on every server.
const (
	RegistryProviders = "/terraform/providers/v1/"
	RegistryFiles     = "/terraform/files/"
	RegistryMirror    = "/terraform/mirror/"
)

// RegistryServices answers GET /.well-known/terraform.json.
type RegistryServices struct {
	Providers string `json:"providers.v1"`
}

// RegistryVersions lists the versions of the provider that a server has.
type RegistryVersions struct {
	Versions []RegistryVersion `json:"versions"`
}

// RegistryVersion is one version of the provider.
type RegistryVersion struct {
	Version   string             `json:"version"`
	Protocols []string           `json:"protocols"`
	Platforms []RegistryPlatform `json:"platforms"`
}

// RegistryPlatform is what a package runs on, in Go's words.
type RegistryPlatform struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

// RegistryPackage says where one package is, and how to check it.
type RegistryPackage struct {
	Protocols    []string            `json:"protocols"`
	OS           string              `json:"os"`
	Arch         string              `json:"arch"`
	Filename     string              `json:"filename"`
	DownloadURL  string              `json:"download_url"`
	ShasumsURL   string              `json:"shasums_url"`
	SignatureURL string              `json:"shasums_signature_url"`
	Shasum       string              `json:"shasum"`
	SigningKeys  RegistrySigningKeys `json:"signing_keys"`
}

// RegistrySigningKeys are the keys that a package may be signed with.
type RegistrySigningKeys struct {
	GPG []RegistryKey `json:"gpg_public_keys"`
}

// RegistryKey is the public half of an OpenPGP key.
type RegistryKey struct {
	KeyID string `json:"key_id"`
	Armor string `json:"ascii_armor"`
}

// MirrorVersions lists the versions that a network mirror has.
type MirrorVersions struct {
	Versions map[string]MirrorVersion `json:"versions"`
}

// MirrorVersion is one of them; Terraform has it say nothing.
type MirrorVersion struct{}

// MirrorArchives are the packages of one version, by platform: "linux_amd64".
type MirrorArchives struct {
	Archives map[string]MirrorArchive `json:"archives"`
}

// MirrorArchive is one package and what it may be told by.
type MirrorArchive struct {
	URL    string   `json:"url"`
	Hashes []string `json:"hashes"`
}
