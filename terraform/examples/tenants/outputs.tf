output "urls" {
  description = "Where each tenant's program is."
  value       = { for tenant, s in ten_service.tenant : tenant => provider::ten::instance_url(s.name, var.address) }
}
