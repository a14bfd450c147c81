# Valid for this run, and revoked at its end.
ephemeral "ten_token" "run" {
  description = "one run of Terraform"
  expires_in  = "30m"
}

# For whom it is: here a second configuration of the provider, whose endpoints are TEN_ENDPOINTS.
provider "ten" {
  alias = "run"
  token = ephemeral.ten_token.run.secret
}

data "ten_cluster" "seen_with_it" {
  provider = ten.run
}

output "cluster" {
  value = data.ten_cluster.seen_with_it.id
}
