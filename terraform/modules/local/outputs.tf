locals {
  up = terraform_data.cluster.output.nodes
}

output "endpoints" {
  description = "The servers' addresses, for TEN_ENDPOINTS or the provider's endpoints. They want the token."
  value       = [for n in local.up : "http://${n.ADDRESS}:${n.PORT}"]
}

output "sockets" {
  description = "The servers' admin sockets, for the provider's endpoints on this machine. They want no token of the user that runs the servers."
  value       = [for n in local.up : "unix://${n.DIR}/ten.sock"]
}

output "token_file" {
  description = "The file with a token of role admin, mode 0600. The token itself is in no state."
  value       = "${local.up["n1"].DIR}/api_token"
}

output "tls_endpoints" {
  description = "The same as endpoints, over TLS; none without a tls_port."
  value       = [for n in local.up : "https://${n.ADDRESS}:${n.TLS_PORT}" if n.TLS_PORT != "0"]
}

output "ca_file" {
  description = "The file with the cluster's CA, for TEN_CA, the provider's ca, and SSL_CERT_FILE of terraform init."
  value       = "${dirname(local.up["n1"].DIR)}/ca.pem"
}

output "provider_source" {
  description = "The provider's source address at the first server; null without a tls_port."
  value       = local.up["n1"].TLS_PORT == "0" ? null : "${local.up["n1"].ADDRESS}:${local.up["n1"].TLS_PORT}/tenement/ten"
}

output "nodes" {
  description = "Of each server, by name: its address, its data directory and its log."
  value       = { for name, n in local.up : name => { address = n.ADDRESS, data_dir = n.DIR, log_file = "${n.DIR}.log" } }
}
