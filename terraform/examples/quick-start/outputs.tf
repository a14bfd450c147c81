output "alice_url" {
  description = "Where the one instance is served."
  value       = provider::ten::instance_url(ten_instance.alice.ref, var.address)
}

output "service_url" {
  description = "Where all instances are, by weight."
  value       = provider::ten::instance_url(ten_service.greeter.name, var.address)
}

output "instances" {
  description = "The names of all instances."
  value       = concat([ten_instance.alice.ref], [for n in range(ten_fleet.web.replicas) : "${ten_fleet.web.ref}-${n}"])
}
