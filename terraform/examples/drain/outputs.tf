output "nodes" {
  description = "What each node is eligible for."
  value       = { for name, n in ten_node.all : name => n.eligibility }
}

output "url" {
  description = "Where the instances are."
  value       = provider::ten::instance_url(ten_service.steady.name, var.address)
}
