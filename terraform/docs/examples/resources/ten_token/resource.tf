ephemeral "ten_token_secret" "ci" {}

resource "ten_token" "ci" {
  description       = "CI"
  expires_at        = "2090-01-01T00:00:00Z"
  secret_wo         = ephemeral.ten_token_secret.ci.secret
  secret_wo_version = 1
}

# Whoever needs the secret gets it by a write-only attribute: a vault or, as here, a program
# of the cluster. Change both versions together.
resource "ten_service" "deployer" {
  name           = "deployer"
  command        = "python3 -m http.server {port}"
  env_wo         = { TEN_TOKEN = ephemeral.ten_token_secret.ci.secret }
  env_wo_version = 1
}
