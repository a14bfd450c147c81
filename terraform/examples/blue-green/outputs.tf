output "live" {
  description = "Which of the two gets the visitors."
  value       = one(ten_route.site.backends[*].fleet)
}

output "urls" {
  description = "Where each of the two is looked at, whichever is live."
  value       = { for colour, s in ten_service.site : colour => provider::ten::instance_url(s.name, var.address) }
}
