output "host" {
  description = "The host name that visitors use."
  value       = one(ten_route.shop.hosts)
}

output "weights" {
  description = "How many of 100 requests each version gets."
  value       = { for b in ten_route.shop.backends : b.fleet => b.weight }
}
