# https://blue.web.example.com
output "instance" {
  value = provider::ten::instance_url("web:blue", "https://example.com")
}

# http://web.localhost:8080
output "service" {
  value = provider::ten::instance_url("web", "http://localhost:8080")
}
