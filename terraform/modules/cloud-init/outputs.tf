output "user_data" {
  description = "The user-data, a #cloud-config. It holds the join token if join_token was given."
  value       = local.user_data
  sensitive   = true
}

output "user_data_wo" {
  description = "The same with join_token_wo, for a write-only attribute or a provisioner."
  value       = local.user_data_wo
  ephemeral   = true
  sensitive   = true
}
