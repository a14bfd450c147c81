output "service" {
  description = "The service's name."
  value       = ten_service.this.name
}

output "fleets" {
  description = "The fleets' full names, service:name, by name."
  value       = { for name, f in ten_fleet.this : name => f.ref }
}

output "instances" {
  description = "The names of all members of the fleets."
  value       = flatten([for f in ten_fleet.this : [for n in range(f.replicas) : "${f.ref}-${n}"]])
}

output "hosts" {
  description = "The hosts of each route, by the route's name."
  value       = { for name, r in ten_route.this : name => r.hosts }
}
