ephemeral "ten_token_secret" "alice" {}

# It becomes valid with a token made of it,
resource "ten_token" "alice" {
  tenant            = "alice"
  secret_wo         = ephemeral.ten_token_secret.alice.secret
  secret_wo_version = 1
}

# and is known to whoever is given it by a write-only attribute.
resource "ten_service" "portal" {
  name           = "portal"
  command        = "python3 -m http.server {port}"
  env_wo         = { ALICE_TOKEN = ephemeral.ten_token_secret.alice.secret }
  env_wo_version = 1
}
